//! NATS JetStream: each message under a subject of its own making, confirmed by the stream.
//!
//! ```no_run
//! use buttress_outbox::publisher::nats::{NatsPublisher, Subjects, async_nats};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let client = async_nats::connect("nats://localhost").await?;
//! let context = async_nats::jetstream::new(client);
//! let publisher = NatsPublisher::new(context, "SHOP", Subjects::new("shop.{topic}")?)?;
//! # let _ = publisher;
//! # Ok(())
//! # }
//! ```
//!
//! The other side is [`consumer::nats`](crate::consumer::nats).

mod connection;
mod event;
mod judge;
mod publisher;
mod subject;

pub use async_nats;

pub(crate) use self::{connection::Connection, event::read};
pub use self::{publisher::NatsPublisher, subject::Subjects};
