//! Whether a connection is the one that it was.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::{Client, connection::State};
use tokio::time::sleep;

/// How soon its state is looked at again.
const AGAIN: Duration = Duration::from_millis(20);

/// A client's connection of this moment. What was asked over it is answered over it, or never.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    client: Client,
    connects: u64,
}

impl Connection {
    /// The connection of now, or `None` where there is none.
    pub(crate) fn of(client: &Client) -> Option<Self> {
        let connects = client.statistics().connects.load(Ordering::Relaxed);
        let connection = Self {
            client: client.clone(),
            connects,
        };
        connection.is_up().then_some(connection)
    }

    pub(crate) fn is_up(&self) -> bool {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        connects == self.connects && self.client.connection_state() == State::Connected
    }

    /// Ready when it is lost, whether or not there is another one then.
    pub(crate) async fn lost(&self) {
        while self.is_up() {
            sleep(AGAIN).await;
        }
    }
}
