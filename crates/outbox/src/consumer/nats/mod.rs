//! NATS JetStream: messages of a durable pull consumer, each acknowledged once its effects stand.
//!
//! The loop may be yours: [`Received`] is one message, read and acknowledged. Or it is
//! [`NatsConsumer`]'s, which hands each message to a [`Publisher`](crate::Publisher): a function of
//! this process that takes it [into an inbox](crate::Inbox), or webhooks.
//!
//! ```no_run
//! use buttress_outbox::{
//!     Inbox, PublishError, Taken,
//!     consumer::nats::NatsConsumer,
//!     publisher::{in_process, nats::async_nats},
//! };
//! # #[cfg(feature = "sqlite")]
//! # async fn run(client: async_nats::Client, consumer: async_nats::jetstream::consumer::PullConsumer, pool: sqlx::SqlitePool, inbox: Inbox) {
//!
//! let consumer = NatsConsumer::new(client, consumer);
//! let take = in_process(move |delivery| {
//!     let (pool, inbox) = (pool.clone(), inbox.clone());
//!     async move {
//!         let taking = async {
//!             let mut transaction = pool.begin().await?;
//!             let id = delivery.message().id().to_owned();
//!             if inbox.take_in(&mut *transaction, id).await? == Taken::First {
//!                 // What the message makes you do, in this transaction.
//!             }
//!             Ok::<_, Box<dyn std::error::Error + Send + Sync>>(transaction.commit().await?)
//!         };
//!         // It comes again, whatever it was.
//!         taking.await.map_err(|_| PublishError::down("the database"))
//!     }
//! });
//! consumer.run_until(&take, std::future::pending()).await;
//! # }
//! ```
//!
//! # Order
//!
//! The stream keeps the order in which relays published, and so each key's. What a consumer makes
//! of it is its own: with `max_ack_pending` of 1, no message is handed out before the one ahead of
//! it is acknowledged. With more, a message that comes again has been overtaken.

mod received;
mod run;

pub use self::{
    received::{AckError, Received, Unreadable},
    run::NatsConsumer,
};
