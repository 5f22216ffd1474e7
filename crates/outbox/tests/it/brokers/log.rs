//! What a handler was given.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use buttress_outbox::consumer::Received;
use tokio::sync::Notify;

/// How often each message was given to a handler.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<BTreeMap<i64, u32>>>, Arc<Notify>);

impl Log {
    /// Writes down a message, and how often it has come with this time.
    pub(super) fn add(&self, received: &Received) -> (i64, u32) {
        let id = received.id().parse().unwrap();
        let mut log = self.0.lock().unwrap();
        let times = log.entry(id).or_default();
        *times += 1;
        self.1.notify_one();
        (id, *times)
    }

    pub(super) fn all(&self) -> BTreeMap<i64, u32> {
        self.0.lock().unwrap().clone()
    }

    /// Ready when so many different messages were given out.
    pub(super) async fn has(&self, messages: usize) {
        while self.0.lock().unwrap().len() < messages {
            self.1.notified().await;
        }
    }
}
