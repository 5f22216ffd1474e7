//! The consumer: one message after the other, confirmed when its handler's work is committed.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions},
    protocol::constants::REPLY_SUCCESS,
    types::{FieldTable, ShortString},
};
use tokio::time::{sleep, timeout};

use super::{RabbitConnection, answer, connection::Live, event};
use crate::{
    PolicyError, PublishError, policy,
    publisher::{Handled, Received},
};

/// How many messages are on their way to a consumer, unless told otherwise.
const PREFETCH: u16 = 50;
/// The wait after `Handled::Again`, and while the broker is away.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the broker may take to begin a consumer, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes messages of one queue, one after the other in the queue's order, and acknowledges each
/// after its handler has said [`Handled::Done`].
///
/// A message comes again if this process, the connection or the broker ends between the handler's
/// commit and the acknowledgement: take it through an [`Inbox`](crate::Inbox). What comes
/// again comes before what was behind it, if this is the queue's only active consumer
/// (`x-single-active-consumer`), so the order of a key holds.
///
/// | the handler says | the message |
/// | --- | --- |
/// | `Done` | is acknowledged |
/// | `Again` | goes back to its place with all that was fetched behind it; all come again after a pause |
/// | `Never`, or it is no event | is rejected: to the queue's dead letter exchange, or else it is gone |
///
/// The broker must know when to give up: a delivery limit of a quorum queue, or your handler, which
/// answers `Never`.
///
/// # Example
///
/// ```no_run
/// # #[cfg(feature = "postgres")]
/// # async fn example(connection: buttress_outbox::publisher::rabbitmq::RabbitConnection, inbox: buttress_outbox::Inbox, pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_outbox::{OutboxError, Taken, publisher::{Handled, Received, rabbitmq::RabbitConsumer}};
///
/// async fn bill(pool: &sqlx::PgPool, inbox: &buttress_outbox::Inbox, message: &Received) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     let mut transaction = pool.begin().await?;
///     if inbox.take_in(&mut *transaction, message.inbox_id()).await? == Taken::First {
///         // What the message makes you do, in this transaction.
///     }
///     Ok(transaction.commit().await?)
/// }
///
/// let consumer = RabbitConsumer::new(&connection, "billing")?;
/// consumer
///     .run_until(std::future::pending(), |message| {
///         let (pool, inbox) = (pool.clone(), inbox.clone());
///         async move {
///             match bill(&pool, &inbox, &message).await {
///                 Ok(()) => Handled::Done,
///                 Err(_) => Handled::Again,
///             }
///         }
///     })
///     .await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RabbitConsumer {
    connection: RabbitConnection,
    queue: ShortString,
    prefetch: u16,
    pause: Duration,
}

impl RabbitConsumer {
    /// A consumer of the queue of this name, which exists.
    ///
    /// # Errors
    ///
    /// When the name is not 1 to 255 bytes long.
    pub fn new(connection: &RabbitConnection, queue: &str) -> Result<Self, PolicyError> {
        let wrong = || PolicyError::new("queue", "1 to 255 bytes");
        let queue = ShortString::try_new(queue).map_err(|_| wrong())?;
        if queue.as_str().is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            connection: connection.clone(),
            queue,
            prefetch: PREFETCH,
            pause: PAUSE,
        })
    }

    /// The same with so many messages on their way to it at once, 1 to 10,000; 50 by default. All of
    /// them are in memory.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn with_prefetch(mut self, messages: u16) -> Result<Self, PolicyError> {
        if !(1..=10_000).contains(&messages) {
            return Err(PolicyError::new("prefetch", "1 to 10000"));
        }
        self.prefetch = messages;
        Ok(self)
    }

    /// The same with this wait after [`Handled::Again`], and while the broker is away; 1 s by
    /// default.
    ///
    /// # Errors
    ///
    /// When it is not 1 ms to 1 h.
    pub fn with_pause(mut self, pause: Duration) -> Result<Self, PolicyError> {
        let range = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
        policy::time("pause", pause, range, "1 ms to 1 h")?;
        self.pause = pause;
        Ok(self)
    }

    /// Consumes until `shutdown` is ready; then the message that is being handled is finished, and
    /// the others go back. While the broker is away it asks again after each pause.
    ///
    /// Dropping the future drops the handler where it is. If its work was not committed, the message
    /// comes again and is new; if it was, it comes again and the inbox knows it.
    pub async fn run_until<H, Fut>(&self, shutdown: impl Future<Output = ()> + Send, handle: H)
    where
        H: Fn(Received) -> Fut + Send + Sync,
        Fut: Future<Output = Handled> + Send,
    {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            // The end of a channel brings back to the queue what was not acknowledged on it.
            match self.consume(shutdown.as_mut(), &handle).await {
                Next::Stop => return,
                Next::Again => {}
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = sleep(self.pause) => {}
            }
        }
    }

    /// Consumes on one channel for as long as all goes well.
    async fn consume<S, H, Fut>(&self, mut shutdown: Pin<&mut S>, handle: &H) -> Next
    where
        S: Future<Output = ()> + Send,
        H: Fn(Received) -> Fut + Send + Sync,
        Fut: Future<Output = Handled> + Send,
    {
        let begun = tokio::select! {
            biased;
            () = &mut shutdown => return Next::Stop,
            begun = timeout(PATIENCE, self.begin()) => begun,
        };
        // The connection is kept for as long as it is used.
        let late = |_| Err(PublishError::down("no answer of the broker in time"));
        let (_live, channel, mut deliveries) = match begun.unwrap_or_else(late) {
            Ok(begun) => begun,
            Err(error) => {
                tracing::warn!(reason = error.reason(), "RabbitMQ: no messages for now");
                return Next::Again;
            }
        };
        let next = loop {
            let delivery = tokio::select! {
                biased;
                () = &mut shutdown => break Next::Stop,
                delivery = deliveries.next() => delivery,
            };
            let Some(Ok(mut delivery)) = delivery else {
                break Next::Again;
            };
            let handled = match event::read(&mut delivery) {
                Some(received) => handle(received).await,
                None => Handled::Never,
            };
            let answering = async {
                match handled {
                    Handled::Done => delivery.ack(BasicAckOptions::default()).await,
                    Handled::Never => delivery.reject(BasicRejectOptions::default()).await,
                    Handled::Again => Ok(false),
                }
            };
            // Whether the broker has heard it is not said: if it has not, the message comes again.
            let Ok(Ok(true)) = timeout(PATIENCE, answering).await else {
                break Next::Again;
            };
        };
        // What was not acknowledged goes back now, in its order, and not when this is found closed.
        let closing = channel.close(REPLY_SUCCESS, "OK".into());
        let _ = timeout(PATIENCE, closing).await;
        next
    }

    async fn begin(&self) -> Result<(Arc<Live>, Channel, lapin::Consumer), PublishError> {
        let live = self.connection.live().await?;
        let beginning = async {
            let channel = live.channel().await?;
            let options = BasicQosOptions::default();
            channel.basic_qos(self.prefetch, options).await?;
            let options = BasicConsumeOptions::default();
            let (tag, arguments) = (ShortString::default(), FieldTable::default());
            let deliveries = channel.basic_consume(self.queue.clone(), tag, options, arguments);
            Ok::<_, lapin::Error>((deliveries.await?, channel))
        };
        match beginning.await {
            Ok((deliveries, channel)) => Ok((live, channel, deliveries)),
            Err(error) => Err(answer::ended(&error)),
        }
    }
}

/// What follows on the end of a channel.
enum Next {
    Stop,
    Again,
}

impl fmt::Debug for RabbitConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitConsumer")
            .field("queue", &self.queue.as_str())
            .field("prefetch", &self.prefetch)
            .field("pause", &self.pause)
            .finish_non_exhaustive()
    }
}
