//! Where messages go: the trait that a broker, an HTTP target or a function implements.

#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "redis"))]
pub(crate) mod attributes;
mod delivery;
#[cfg(feature = "http")]
pub mod http;
mod in_process;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis_streams;
#[cfg(any(
    feature = "http",
    feature = "nats",
    feature = "rabbitmq",
    feature = "redis"
))]
mod time;

#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "redis"))]
pub use self::attributes::word;
pub use self::{
    delivery::Delivery,
    in_process::{InProcess, in_process},
};
use crate::PublishError;

/// Takes messages to where they belong, and says of each what became of it.
///
/// The relay calls it outside of any transaction, with messages of one topic, never more than its
/// policy's batch. It is shaped for brokers that confirm: send all, then wait for all confirms.
///
/// What it must keep:
///
/// - The answer has one entry for each message, in the same order. A missing one counts as
///   [`PublishError::unknown`].
/// - `Ok` means that the destination has taken the message and will not lose it.
/// - Messages may come again: after a crash, a lost confirm, a lapsed lease. They carry the same
///   id then; an inbox on the other side takes each once.
/// - Its future may be dropped at any await: at the relay's publish deadline and at its end. What
///   becomes of the messages is unknown then, and they come again.
/// - No message of a key may be delivered after an earlier one of its key was not. With
///   [`PublishOrder::OnePerKey`], the default, the relay sees to it by never handing over two
///   messages of a key at once.
#[async_trait::async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Publishes them. Never called with an empty batch.
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>>;

    /// What a batch may hold of one key.
    fn order(&self) -> PublishOrder {
        PublishOrder::OnePerKey
    }
}

/// What a batch that a [`Publisher`] is given may hold of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishOrder {
    /// At most one message of a key: the publisher may send all of a batch at once.
    #[default]
    OnePerKey,
    /// Several messages of a key, in order. The publisher promises that once one was not
    /// delivered, those of its key behind it in the batch are not either, and answers
    /// [`PublishError::skipped`] for them.
    WholeRuns,
}
