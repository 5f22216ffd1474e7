//! Where messages come from, on the other side of a broker: each is handled once it has come, and
//! acknowledged once its effects stand.
//!
//! Three brokers, one shape: a consumer is made of the broker's own connection, and
//! `run_until(shutdown, handler)` gives its messages, one after the other, to the handler, which
//! gets a [`Received`] and says what became of it in a word, [`Handled`].
//!
//! ```no_run
//! # #[cfg(feature = "postgres")]
//! # mod example {
//! use buttress_outbox::{
//!     Inbox, Taken,
//!     consumer::{Handled, Received},
//! };
//!
//! async fn bill(pool: &sqlx::PgPool, inbox: &Inbox, message: &Received) -> Handled {
//!     let billing = async {
//!         let mut transaction = pool.begin().await?;
//!         if inbox.take_in(&mut *transaction, message.inbox_id()).await? == Taken::First {
//!             // What the message makes you do, in this transaction.
//!         }
//!         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(transaction.commit().await?)
//!     };
//!     match billing.await {
//!         Ok(()) => Handled::Done,
//!         Err(_) => Handled::Again, // the database is away
//!     }
//! }
//! # }
//! ```
//!
//! # What all of them do
//!
//! | the handler | the message |
//! | --- | --- |
//! | says [`Done`](Handled::Done) | is acknowledged |
//! | says [`Again`](Handled::Again), or is not done by [its deadline](Terms::with_deadline) | is given back with all that was fetched behind it; nothing is taken until the [backoff](Terms::with_backoff) has passed |
//! | says [`Never`](Handled::Never) | is put aside, where the broker has a place for that |
//! | is not asked: it is no event, or came [too often](Terms::with_attempts) | the same |
//!
//! - **At least once.** It comes again when this process, the connection or the broker ends between
//!   the handler's commit and the acknowledgement: take it through an [`Inbox`](crate::Inbox).
//! - **In order**, of one consumer, as long as the broker gives it out in order. Each consumer says
//!   what that asks of its broker.
//! - **Poison takes no neighbour with it.** Brokers count how often they gave out a message, and
//!   count it for all that was fetched. So at its beginning and after each failure a consumer
//!   fetches one message at a time, until one is done that had not come before.
//! - **A slow handler keeps its message**, and those fetched behind it: the broker is told in time
//!   that they are in work, where it asks for that.
//! - **A stop is graceful.** When `shutdown` is ready, the message in work is handled to its end and
//!   acknowledged; what was fetched behind it is given back.
//! - **A broker that is away is waited for**, with the same backoff.
//!
//! Dropping the future of `run_until` drops the handler where it is. If its work was not committed,
//! the message comes again and is new; if it was, it comes again and the inbox knows it.
//!
//! [`hand_to`] makes a handler of a [`Publisher`](crate::Publisher): webhooks, say.

mod handled;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
mod received;
#[cfg(feature = "redis")]
pub mod redis_streams;
mod run;
mod terms;

pub use self::{
    handled::{Handled, hand_to},
    received::Received,
    terms::Terms,
};
