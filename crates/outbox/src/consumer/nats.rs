//! NATS JetStream: messages of a durable pull consumer.
//!
//! ```no_run
//! use buttress_outbox::{
//!     consumer::{Handled, nats::NatsConsumer},
//!     publisher::nats::async_nats::{Client, jetstream::consumer::PullConsumer},
//! };
//!
//! # async fn run(client: Client, consumer: PullConsumer) {
//! NatsConsumer::new(client, consumer)
//!     .run_until(std::future::pending(), |message| async move {
//!         println!("{}", message.event_type());
//!         Handled::Done
//!     })
//!     .await;
//! # }
//! ```
//!
//! # Order
//!
//! The stream keeps the order in which relays published, and so each key's. What a consumer makes
//! of it is its own: with `max_ack_pending` of 1, no message is handed out before the one ahead of
//! it is acknowledged. With more, a message that comes again has been overtaken.

use std::{collections::VecDeque, fmt, pin::pin, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, AckKind, consumer::PullConsumer},
};
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::{
    Handled, Received, Terms,
    run::{self, Incoming, Settled, Source},
};
use crate::{
    PublishError,
    publisher::nats::{self, Connection},
};

/// How long the server waits for a message before it answers that there is none.
const PULL: Duration = Duration::from_secs(5);
/// How soon it is looked whether there is a connection.
const AWAY: Duration = Duration::from_millis(100);
/// How long what is given back may take to be written.
const FLUSH: Duration = Duration::from_secs(2);
/// How long an acknowledgement may take, whatever the context allows its server: a client without a
/// connection takes only so many words, and then none.
const SETTLE: Duration = Duration::from_secs(10);
/// The server's `ack_wait`, where none is known.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// The least wait between two words that a message is in work.
const LEAST: Duration = Duration::from_millis(10);

/// Takes the messages of a durable pull consumer, [as every consumer does](super#what-all-of-them-do).
///
/// An acknowledgement goes out without being waited for: one that gets lost with its connection has
/// its message come again, which an inbox knows. While a message is handled, the
/// server hears each third of `ack_wait` that it and those fetched behind it are in work. A message
/// that is put aside is terminated: it does not come again, the stream keeps it, and the server says
/// so in an advisory (`$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED`). The consumer's own `max_deliver`
/// counts what is given back at a stop too: behind it a message is in the stream and comes no more,
/// without a word of ours; [`with_attempts`](Terms::with_attempts) says one.
pub struct NatsConsumer {
    client: Client,
    consumer: PullConsumer,
    terms: Terms,
}

impl NatsConsumer {
    /// What takes the messages of a consumer that is there, of this client: with explicit
    /// acknowledgement, and `max_ack_pending` of 1 where order matters.
    #[must_use]
    pub const fn new(client: Client, consumer: PullConsumer) -> Self {
        let terms = Terms::new();
        Self {
            client,
            consumer,
            terms,
        }
    }

    /// The same on these terms. Of a batch no more is fetched than the consumer's `max_ack_pending`
    /// and `max_batch` allow.
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
        let fetched = Fetched {
            of: self,
            messages: VecDeque::new(),
            over: None,
        };
        run::run(fetched, &self.terms, shutdown, &handle).await;
    }

    /// As many as may be fetched: the server hands out no more before one is acknowledged, and
    /// refuses a pull for more than `max_batch`.
    fn most(&self, alone: bool) -> usize {
        let batch = if alone { 1 } else { self.terms.batch.into() };
        let config = &self.consumer.cached_info().config;
        let limits = [config.max_ack_pending, config.max_batch];
        let limits = limits.into_iter().filter(|limit| *limit > 0);
        limits
            .filter_map(|limit| usize::try_from(limit).ok())
            .fold(batch, usize::min)
    }

    /// How long a pull may wait: the server refuses one that would longer than `max_expires`.
    fn longest_pull(&self) -> Duration {
        match self.consumer.cached_info().config.max_expires {
            Duration::ZERO => PULL,
            longest => PULL.min(longest),
        }
    }
}

/// Reads a message that a loop of your own has fetched. `None` for what is no event of CloudEvents
/// in binary mode, and will be none the next time either.
#[must_use]
pub fn read(message: &jetstream::Message) -> Option<Received> {
    let delivered = message.info().ok()?.delivered.max(1);
    let attempt = u32::try_from(delivered).unwrap_or(u32::MAX);
    let data = message.payload.clone();
    nats::read(&message.subject, message.headers.as_ref(), data, attempt)
}

/// What was fetched and not handled.
struct Fetched<'a> {
    of: &'a NatsConsumer,
    messages: VecDeque<jetstream::Message>,
    /// The connection by which they came.
    over: Option<Connection>,
}

impl Fetched<'_> {
    /// What is there now, or else the next that comes.
    async fn fetch(&mut self, most: usize, connection: &Connection) -> Result<(), PublishError> {
        let away = || PublishError::down("the server, or its consumer, does not answer");
        let now = self.of.consumer.fetch().max_messages(most);
        let now = now.messages().await.map_err(|_| away())?;
        let ended_well = self.gather(now, connection).await;
        if !self.messages.is_empty() {
            return Ok(());
        }
        if !ended_well {
            return Err(away());
        }
        let next = self.of.consumer.batch().max_messages(1);
        let next = next.expires(self.of.longest_pull());
        let next = next.messages().await.map_err(|_| away())?;
        if self.gather(next, connection).await || !self.messages.is_empty() {
            Ok(())
        } else {
            Err(away())
        }
    }

    /// All of a pull, as long as its connection stands; whether the server ended it as it should.
    async fn gather(
        &mut self,
        mut messages: jetstream::consumer::pull::Batch,
        connection: &Connection,
    ) -> bool {
        let mut lost = pin!(connection.lost());
        loop {
            tokio::select! {
                biased;
                next = messages.next() => match next {
                    Some(Ok(message)) => self.messages.push_back(message),
                    Some(Err(_)) => return false,
                    None => return true,
                },
                () = &mut lost => return false,
            }
        }
    }
}

impl Source for Fetched<'_> {
    type Token = jetstream::Message;

    const BROKER: &'static str = "NATS";

    async fn next(
        &mut self,
        alone: bool,
    ) -> Result<Option<Incoming<jetstream::Message>>, PublishError> {
        if self.messages.is_empty() {
            let Some(connection) = Connection::of(&self.of.client) else {
                sleep(AWAY).await;
                return Err(PublishError::down("no connection to the server"));
            };
            self.over = Some(connection.clone());
            let most = self.of.most(alone);
            // Each pull has a deadline of its own, which the server keeps while it is there.
            match timeout(PULL * 3, self.fetch(most, &connection)).await {
                Ok(fetched) => fetched?,
                Err(_) => return Err(PublishError::down("no answer of the server's in time")),
            }
        }
        Ok(self.messages.pop_front().map(|message| Incoming {
            received: read(&message),
            token: message,
        }))
    }

    async fn settle(
        &mut self,
        message: jetstream::Message,
        settled: Settled,
        _alone: bool,
    ) -> Result<(), PublishError> {
        let told = async {
            match settled {
                Settled::Done => message.ack_with(AckKind::Ack).await,
                // Rare, and not to come again: so it is confirmed.
                Settled::Aside => message.double_ack_with(AckKind::Term).await,
            }
        };
        let told = matches!(timeout(SETTLE, told).await, Ok(Ok(())));
        let connected = self.over.as_ref().is_some_and(Connection::is_up);
        if told && connected {
            Ok(())
        } else {
            // What was fetched with it may be somebody else's by now.
            Err(PublishError::down(
                "an acknowledgement may not have reached the server",
            ))
        }
    }

    async fn give_back(&mut self, message: Option<jetstream::Message>, wait: Duration) {
        let wait = (!wait.is_zero()).then_some(wait);
        let client = &self.of.client;
        let messages = message.into_iter().chain(self.messages.drain(..));
        let giving_back = async {
            for message in messages {
                // Unheard, it comes again after `ack_wait`.
                let _ = message.ack_with(AckKind::Nak(wait)).await;
            }
            // At a stop nobody else may send what the client has not yet written.
            client.flush().await
        };
        let _ = timeout(FLUSH, giving_back).await;
    }

    fn keeps_every(&self) -> Option<Duration> {
        let ack_wait = self.of.consumer.cached_info().config.ack_wait;
        let ack_wait = if ack_wait.is_zero() {
            ACK_WAIT
        } else {
            ack_wait
        };
        Some((ack_wait / 3).max(LEAST))
    }

    async fn keep(&mut self, message: &jetstream::Message) {
        for message in std::iter::once(message).chain(&self.messages) {
            // Unheard, it comes again, and the inbox knows it.
            let _ = message.ack_with(AckKind::Progress).await;
        }
    }
}

impl fmt::Debug for NatsConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConsumer")
            .field("stream", &self.consumer.cached_info().stream_name)
            .field("consumer", &self.consumer.cached_info().name)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
