//! RabbitMQ (AMQP 0-9-1): publishing with confirms.
//!
//! ```no_run
//! use buttress_outbox::publisher::rabbitmq::{RabbitConnection, RabbitPublisher};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let connection = RabbitConnection::new("amqp://shop:secret@broker/%2f")?;
//! let publisher = RabbitPublisher::new(&connection, "orders")?; // an exchange that exists
//! # let _ = publisher;
//! # Ok(())
//! # }
//! ```
//!
//! Exchanges, queues and bindings are yours to declare: durable, or what is confirmed is lost with
//! the broker's next restart.
//!
//! The other side is [`consumer::rabbitmq`](crate::consumer::rabbitmq).
//!
//! The client is [`lapin`], handed on here. It logs a returned message whole, its data too, as a
//! warning of its target `lapin::returned_messages`: filter that target out.

mod answer;
mod connection;
mod event;
mod publisher;

pub use lapin;

pub(crate) use self::{answer::ended, connection::Live, event::read};
pub use self::{connection::RabbitConnection, publisher::RabbitPublisher};
