//! Redis, where instances share what may be lost: rates, what their breakers see, and what they have
//! read of the catalogue.

use std::time::Duration;

use anyhow::anyhow;
use buttress_cache_aside::bus::RedisBus;
use buttress_store::{Deadline, Gate, Phase, RedisConnection, StoreError, board::RedisBoard};
use redis::{
    Client, ConnectionInfo, IntoConnectionInfo,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};

/// After an outage it is looked for this often at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that nobody on the other side knows of any more is given up after so long.
#[cfg(target_os = "linux")]
const SILENT_FOR: Duration = Duration::from_secs(5);

/// The one connection of this instance, and what it knows of the server's health.
#[derive(Clone, Debug)]
pub(crate) struct Redis {
    pub(crate) connection: RedisConnection,
    pub(crate) gate: Gate,
    /// On which instances tell each other what changed.
    pub(crate) bus: RedisBus,
}

impl Redis {
    /// Does not connect yet: nothing here needs it to be there.
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        // Its own error may hold the URL, and that a password.
        let info = url.into_connection_info();
        let info = info.map_err(|_| anyhow!("the Redis URL cannot be read"))?;
        let client = Client::open(patient(info))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Deadline::REDIS))
            // Who asks has his own deadline, and does without; the next one tries again.
            .set_number_of_retries(0);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        let connection = RedisConnection::new(connection);
        Ok(Self {
            bus: RedisBus::new(client, connection.clone(), "storefront")?,
            connection,
            gate: Gate::redis().with_longest_pause(LONGEST_PAUSE)?,
        })
    }

    /// Where instances tell one another what they see.
    pub(crate) fn board(&self) -> anyhow::Result<RedisBoard> {
        Ok(RedisBoard::with_prefix(
            self.connection.clone(),
            "storefront",
        )?)
    }

    /// Whether it does not answer. Takes no longer than its deadline.
    pub(crate) async fn is_away(&self) -> bool {
        let ping = self.gate.run(|deadline| self.ping(deadline));
        ping.await.is_err()
    }

    async fn ping(&self, deadline: Deadline) -> Result<(), StoreError> {
        let mut connection = self.connection.clone();
        let ping = redis::cmd("PING");
        let ping = ping.query_async::<()>(&mut connection);
        deadline.run(Phase::Read, ping).await
    }
}

#[cfg(target_os = "linux")]
fn patient(info: ConnectionInfo) -> ConnectionInfo {
    info.set_tcp_settings(TcpSettings::default().set_user_timeout(SILENT_FOR))
}

#[cfg(not(target_os = "linux"))]
fn patient(info: ConnectionInfo) -> ConnectionInfo {
    info.set_tcp_settings(TcpSettings::default())
}
