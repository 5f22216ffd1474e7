//! Redis Streams: publishing.
//!
//! ```no_run
//! use buttress_outbox::publisher::redis_streams::{RedisStreamPublisher, Trim};
//! use buttress_store::RedisConnection;
//!
//! # fn example(manager: redis::aio::MultiplexedConnection) -> Result<(), Box<dyn std::error::Error>> {
//! let connection = RedisConnection::new(manager);
//! let publisher = RedisStreamPublisher::new(&connection, "shop", Trim::Longer(1_000_000))?;
//! # let _ = publisher;
//! # Ok(())
//! # }
//! ```
//!
//! The stream of the topic `orders` is `shop:stream:{orders}`. The other side is
//! [`consumer::redis_streams`](crate::consumer::redis_streams).
//!
//! **What Redis has confirmed it may lose.** It answers before its log is on the disk, unless it
//! runs with `appendfsync always`, and before any replica has it: a failover loses what the replica
//! lacked. [`RedisStreamPublisher::with_replicas`] waits for replicas, which makes that rarer and
//! not impossible. Where no message may be lost, publish to something else.

mod answer;
mod entry;
mod publisher;

pub use self::publisher::{RedisStreamPublisher, Trim};
pub(crate) use self::{
    answer::of_error,
    entry::{Entry, entries},
    publisher::keys,
};
