//! RabbitMQ: messages of a queue.
//!
//! ```no_run
//! use buttress_outbox::{
//!     consumer::{Handled, rabbitmq::RabbitConsumer},
//!     publisher::rabbitmq::RabbitConnection,
//! };
//!
//! # async fn run() -> Result<(), buttress_outbox::PolicyError> {
//! let connection = RabbitConnection::new("amqp://shop:secret@broker/%2f")?;
//! RabbitConsumer::new(&connection, "billing")? // a queue that exists
//!     .run_until(std::future::pending(), |message| async move {
//!         println!("{}", message.event_type());
//!         Handled::Done
//!     })
//!     .await;
//! # Ok(()) }
//! ```
//!
//! # Order
//!
//! In a classic queue what comes again comes before what was behind it, if this is the queue's only
//! active consumer (`x-single-active-consumer`), so the order of a key holds. A quorum queue puts
//! what is given back behind what was given back before: there a message that fails twice is
//! overtaken by what was fetched with it, and the order holds only while nothing fails.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Acker, Channel,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions,
        BasicQosOptions, BasicRejectOptions,
    },
    protocol::constants::REPLY_SUCCESS,
    types::{FieldTable, ShortString},
};
use tokio::time::timeout;

use super::{
    Handled, Received, Terms,
    run::{self, Incoming, Settled, Source},
};
use crate::{
    PolicyError, PublishError,
    publisher::rabbitmq::{Live, RabbitConnection, ended, read},
};

/// How long the broker may take to begin a consumer, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes the messages of one queue, [as every consumer does](super#what-all-of-them-do).
///
/// What is given back goes to its place in the queue. A message that is put aside is rejected: it
/// goes to the queue's dead letter exchange, or else it is gone. A quorum queue counts, and has a
/// delivery limit of its own; of another queue's messages it is only known that they came before,
/// so [`with_attempts`](Terms::with_attempts) counts what this process has seen.
///
/// The broker ends the channel of a consumer that has had a message for half an hour
/// (`consumer_timeout`), also one that waits in its batch: keep the deadline of handlers, times the
/// batch, below it.
///
/// A broker that blocks publishers reads nothing that comes over their connection, acknowledgements
/// neither: a consumer's [`RabbitConnection`] is better its own.
#[derive(Clone)]
pub struct RabbitConsumer {
    connection: RabbitConnection,
    queue: ShortString,
    terms: Terms,
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
            terms: Terms::new(),
        })
    }

    /// The same on these terms. A batch is the prefetch count.
    #[must_use]
    pub fn with_terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// Hands message after message to `handle` until `shutdown` is ready, and the one in work is
    /// done. What dropping the future means is said [above](super#what-all-of-them-do).
    pub async fn run_until<H, Fut>(&self, shutdown: impl Future<Output = ()> + Send, handle: H)
    where
        H: Fn(Received) -> Fut + Send + Sync,
        Fut: Future<Output = Handled> + Send,
    {
        let begun = Begun { of: self, on: None };
        run::run(begun, &self.terms, shutdown, &handle).await;
    }

    /// Begins a consumer of the broker's, on a channel that is there or on a new one.
    async fn begin(&self, on: Option<On>, prefetch: u16) -> Result<On, PublishError> {
        let (live, channel) = match on {
            Some(on) => (on.live, on.channel),
            None => {
                let live = self.connection.live().await?;
                let channel = live.channel().await.map_err(|error| ended(&error))?;
                (live, channel)
            }
        };
        let beginning = async {
            let options = BasicQosOptions::default();
            channel.basic_qos(prefetch, options).await?;
            let options = BasicConsumeOptions::default();
            let (tag, arguments) = (ShortString::default(), FieldTable::default());
            let deliveries = channel.basic_consume(self.queue.clone(), tag, options, arguments);
            deliveries.await
        };
        match beginning.await {
            Ok(deliveries) => Ok(On {
                live,
                channel,
                deliveries: Some((deliveries, prefetch)),
            }),
            Err(error) => Err(ended(&error)),
        }
    }
}

/// A channel of the broker's, while there is one.
struct Begun<'a> {
    of: &'a RabbitConsumer,
    on: Option<On>,
}

/// A channel with at most one consumer on it, and its prefetch count.
struct On {
    /// The connection is kept for as long as it is used.
    live: Arc<Live>,
    channel: Channel,
    deliveries: Option<(lapin::Consumer, u16)>,
}

impl On {
    fn fetches(&self) -> Option<u16> {
        self.deliveries.as_ref().map(|(_, prefetch)| *prefetch)
    }

    /// Ends the consumer, if there is one. What it was given stays out. Unheard, it is there still,
    /// and with it what it was given.
    async fn cancel(&mut self) -> Result<bool, lapin::Error> {
        let Some((deliveries, _)) = &self.deliveries else {
            return Ok(false);
        };
        let options = BasicCancelOptions::default();
        self.channel.basic_cancel(deliveries.tag(), options).await?;
        self.deliveries = None;
        Ok(true)
    }

    /// Ends the consumer, and gives back all that it was given and has not acknowledged, in its
    /// order. What begins on this channel then begins behind that: on another one it need not, for
    /// a quorum queue hears of a channel's end some time after whoever ended it.
    async fn end_consumer(&mut self) -> Result<(), lapin::Error> {
        if !self.cancel().await? {
            return Ok(());
        }
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        self.channel.basic_nack(0, all).await
    }
}

impl Begun<'_> {
    fn prefetch(&self, alone: bool) -> u16 {
        if alone { 1 } else { self.of.terms.batch }
    }

    /// Gives back what was fetched. A channel on which that fails is left.
    async fn rest(&mut self) {
        if let Some(mut on) = self.on.take()
            && let Ok(Ok(())) = timeout(PATIENCE, on.end_consumer()).await
        {
            self.on = Some(on);
        }
    }
}

impl Source for Begun<'_> {
    type Token = Acker;

    const BROKER: &'static str = "RabbitMQ";

    async fn next(&mut self, alone: bool) -> Result<Option<Incoming<Acker>>, PublishError> {
        let prefetch = self.prefetch(alone);
        if self.on.as_ref().is_none_or(|on| on.deliveries.is_none()) {
            let late = |_| PublishError::down("no answer of the broker's in time");
            let beginning = self.of.begin(self.on.take(), prefetch);
            self.on = Some(timeout(PATIENCE, beginning).await.map_err(late)??);
        }
        let deliveries = self.on.as_mut().and_then(|on| on.deliveries.as_mut());
        let Some((deliveries, _)) = deliveries else {
            return Ok(None);
        };
        match deliveries.next().await {
            Some(Ok(mut delivery)) => Ok(Some(Incoming {
                received: read(&mut delivery),
                token: delivery.acker,
            })),
            // The queue was deleted, the channel was closed, the connection is gone.
            Some(Err(error)) => {
                self.on = None;
                Err(ended(&error))
            }
            None => {
                self.on = None;
                Err(PublishError::down("the broker ended the consumer"))
            }
        }
    }

    async fn settle(
        &mut self,
        message: Acker,
        settled: Settled,
        alone: bool,
    ) -> Result<(), PublishError> {
        let prefetch = self.prefetch(alone);
        let answering = async {
            // Who fetches one at a time has no other until this one is acknowledged. Ended before
            // that, his consumer has nothing to give back, which would be overtaken.
            if let Some(on) = &mut self.on
                && on.fetches().is_some_and(|its| its != prefetch)
            {
                on.cancel().await?;
            }
            match settled {
                Settled::Done => message.ack(BasicAckOptions::default()).await,
                Settled::Aside => message.reject(BasicRejectOptions::default()).await,
            }
        };
        // Whether the broker has heard it is not said: if it has not, the message comes again.
        match timeout(PATIENCE, answering).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Err(error)) => Err(ended(&error)),
            Ok(Ok(false)) => Err(PublishError::down("the channel ended before an answer")),
            Err(_) => Err(PublishError::down("no answer of the broker's in time")),
        }
    }

    async fn give_back(&mut self, _message: Option<Acker>, _wait: Duration) {
        self.rest().await;
    }

    async fn end(&mut self) {
        if let Some(on) = self.on.take() {
            let closing = on.channel.close(REPLY_SUCCESS, "OK".into());
            let _ = timeout(PATIENCE, closing).await;
        }
    }
}

impl fmt::Debug for RabbitConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitConsumer")
            .field("queue", &self.queue.as_str())
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
