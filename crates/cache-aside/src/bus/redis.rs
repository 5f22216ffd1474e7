//! Redis' publish and subscribe.

use std::fmt;

use async_trait::async_trait;
use buttress_store::{
    Deadline, Key, Phase, RedisConnection, RedisKeys, RedisPrefixError, StoreError, StoreErrorKind,
};
use futures_util::StreamExt as _;
use redis::{Client, aio::PubSubStream};

use super::{Bus, Subscription};

/// A bus on Redis: one channel for each cache, `<prefix>:cache_aside-bus:{<cache>}`.
///
/// Redis keeps nothing for who does not listen, and cuts off who listens too slowly: both are noticed. All instances
/// give the same server: nodes of a cluster pass messages on to each other in no common order, so of a cluster one
/// node is chosen.
#[derive(Clone)]
pub struct RedisBus {
    client: Client,
    connection: RedisConnection,
    channels: RedisKeys,
}

impl RedisBus {
    /// Listens on connections of its own, made by `client`; speaks over `connection`, which others may share, to
    /// the same server.
    ///
    /// # Errors
    ///
    /// [`RedisPrefixError`], when the prefix cannot begin a channel's name.
    pub fn new(
        client: Client,
        connection: RedisConnection,
        prefix: &str,
    ) -> Result<Self, RedisPrefixError> {
        Ok(Self {
            client,
            connection,
            channels: RedisKeys::new(prefix, "cache_aside-bus")?,
        })
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn publish(
        &self,
        space: &Key,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let mut connection = self.connection.clone();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.channels.of(space)).arg(message);
        let sent = publish.query_async::<()>(&mut connection);
        deadline.run(Phase::Statement, sent).await
    }

    async fn subscribe(
        &self,
        space: &Key,
        deadline: Deadline,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        let subscribed = async {
            let mut listening = self.client.get_async_pubsub().await?;
            listening.subscribe(self.channels.of(space)).await?;
            Ok::<_, redis::RedisError>(listening)
        };
        let listening = deadline.run(Phase::Connect, subscribed).await?;
        Ok(Box::new(Listening(Box::new(listening.into_on_message()))))
    }
}

impl fmt::Debug for RedisBus {
    /// A client's own shows its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus").finish_non_exhaustive()
    }
}

struct Listening(Box<PubSubStream>);

#[async_trait]
impl Subscription for Listening {
    async fn next(&mut self) -> Result<Vec<u8>, StoreError> {
        match self.0.next().await {
            Some(message) => Ok(message.get_payload_bytes().to_vec()),
            None => Err(StoreError::new(StoreErrorKind::Lost, Phase::Read)),
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
