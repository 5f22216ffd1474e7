//! One message of a stream: read, and acknowledged.

use std::{fmt, time::Duration};

use async_nats::jetstream::{self, AckKind};

use crate::{Delivery, publisher::nats::read};

/// A message that has come, and is to be acknowledged.
///
/// Dropped without a word it comes again after the consumer's `ack_wait`.
pub struct Received {
    delivery: Delivery,
    message: jetstream::Message,
}

/// A message of the stream that is none of an outbox's, nor any other event of CloudEvents in
/// binary mode. It will not be one the next time either: [`reject`](Self::reject) it.
pub struct Unreadable {
    why: String,
    message: Box<jetstream::Message>,
}

/// The server did not hear the word about a message, or did not say so: the message may come
/// again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the server did not confirm the acknowledgement: the message may come again")]
#[non_exhaustive]
pub struct AckError;

impl Received {
    /// Reads a message.
    ///
    /// The delivery's sequence is the stream's, its attempt how often the server has handed it
    /// out, its time when the stream took it. The message has the id that it was appended with.
    ///
    /// # Errors
    ///
    /// [`Unreadable`], which still is the message.
    pub fn read(message: jetstream::Message) -> Result<Self, Unreadable> {
        let unreadable = |why: String, message| {
            let message = Box::new(message);
            Err(Unreadable { why, message })
        };
        let known = message.info().ok().map(|info| {
            let sequence = i64::try_from(info.stream_sequence).unwrap_or(i64::MAX);
            let attempt = u32::try_from(info.delivered.max(1)).unwrap_or(u32::MAX);
            (sequence, attempt, info.published.into())
        });
        let Some((sequence, attempt, published)) = known else {
            return unreadable("it is no message of a stream".to_owned(), message);
        };
        let payload = message.payload.clone();
        match read(&message.subject, message.headers.as_ref(), payload) {
            Ok(read) => Ok(Self {
                delivery: Delivery::new(read, sequence, attempt, published),
                message,
            }),
            Err(why) => unreadable(why.to_string(), message),
        }
    }

    /// The message, and what is known of its coming.
    #[must_use]
    pub const fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Its effects stand: after the commit. Waits until the server has written down that it need
    /// not come again.
    ///
    /// # Errors
    ///
    /// [`AckError`]. Nothing is lost by it: what comes again, the inbox has taken before.
    pub async fn done(&self) -> Result<(), AckError> {
        confirmed(&self.message, AckKind::Ack).await
    }

    /// It could not be taken: it comes again, not before this long.
    ///
    /// # Errors
    ///
    /// [`AckError`]: it comes again after `ack_wait`.
    pub async fn later(&self, wait: Duration) -> Result<(), AckError> {
        told(&self.message, AckKind::Nak(Some(wait))).await
    }

    /// It never can be taken: it does not come again. The server says so in an advisory
    /// (`$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED`), and the stream keeps it.
    ///
    /// # Errors
    ///
    /// [`AckError`].
    pub async fn reject(&self) -> Result<(), AckError> {
        confirmed(&self.message, AckKind::Term).await
    }
}

impl Unreadable {
    /// Why it is none. Nothing of what is in it.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> &jetstream::Message {
        &self.message
    }

    /// It does not come again; the stream keeps it.
    ///
    /// # Errors
    ///
    /// [`AckError`].
    pub async fn reject(&self) -> Result<(), AckError> {
        confirmed(&self.message, AckKind::Term).await
    }
}

async fn confirmed(message: &jetstream::Message, word: AckKind) -> Result<(), AckError> {
    message.double_ack_with(word).await.map_err(|_| AckError)
}

async fn told(message: &jetstream::Message, word: AckKind) -> Result<(), AckError> {
    message.ack_with(word).await.map_err(|_| AckError)
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unreadable")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of the stream cannot be read: {}", self.why)
    }
}

impl std::error::Error for Unreadable {}
