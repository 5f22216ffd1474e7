//! RabbitMQ (AMQP 0-9-1): publishing with confirms, and consuming into an inbox.
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
//! The client is [`lapin`], handed on here. It logs a returned message whole, its data too, as a
//! warning of its target `lapin::returned_messages`: filter that target out.

mod answer;
mod connection;
mod consumer;
mod event;
mod publisher;

pub use lapin;

pub use self::{
    connection::RabbitConnection, consumer::RabbitConsumer, publisher::RabbitPublisher,
};
