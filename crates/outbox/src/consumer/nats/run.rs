//! The loop: messages are pulled, handed on one after the other, and acknowledged.

use std::{fmt, pin::pin, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, consumer::PullConsumer},
};
use buttress_retry_backoff::{Backoff, Dice};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{sleep, timeout};

use super::Received;
use crate::{
    Delivery, PolicyError, PublishError, PublishErrorKind, Publisher, publisher::nats::Connection,
};

/// How many messages are pulled at once, unless told otherwise.
const BATCH: usize = 16;
/// How long the server waits for a message before it answers that there is none.
const PULL: Duration = Duration::from_secs(5);
/// How soon it is tried again while the server is away.
const AWAY: Duration = Duration::from_millis(100);
/// The server's `ack_wait`, where none is known.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// As far as the pauses grow.
const STEPS: u32 = 64;

/// A durable pull consumer, whose messages are handed on one after the other.
///
/// | whoever takes it says | the message |
/// | --- | --- |
/// | `Ok` | is acknowledged, and the server's word on that awaited |
/// | [refused for good](PublishError::refused_for_good) | is terminated: it does not come again, and the stream keeps it |
/// | [down](PublishError::down), [gone](PublishError::gone) | comes again after the backoff, and nothing else is taken until then |
/// | anything else, or nothing within `ack_wait` | comes again after the backoff |
///
/// What cannot be read is terminated. Of attempts there is no limit but the consumer's own
/// `max_deliver`.
pub struct NatsConsumer {
    client: Client,
    consumer: PullConsumer,
    backoff: Backoff,
    batch: usize,
}

impl NatsConsumer {
    /// The loop for a consumer that is there, of this client: explicit acknowledgement, an `ack_wait` that is
    /// longer than taking [a batch](Self::with_batch) can be, and `max_ack_pending` of 1 where
    /// order matters.
    #[must_use]
    pub const fn new(client: Client, consumer: PullConsumer) -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(100));
        Self {
            client,
            consumer,
            backoff: backoff.with_cap(Duration::from_secs(30)),
            batch: BATCH,
        }
    }

    /// The same with another pause before a message comes again; 100 ms and doubling, to 30 s, by
    /// default. A wait that whoever takes it asks for is heeded if it is longer.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The same with so many messages pulled at once, 1 to 1000; 16 by default. They are taken one
    /// after the other while the server's `ack_wait` runs for all of them.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn with_batch(mut self, messages: usize) -> Result<Self, PolicyError> {
        if !(1..=1000).contains(&messages) {
            return Err(PolicyError::new("batch", "1 to 1000"));
        }
        self.batch = messages;
        Ok(self)
    }

    /// Hands on message after message until `shutdown` is ready; then what is being taken is
    /// taken to its end, and what was pulled and not begun is given back. While the server is
    /// away it waits for it.
    ///
    /// Dropping the future drops what is being taken with it; all that was not acknowledged comes
    /// again after `ack_wait`.
    pub async fn run_until(
        &self,
        taker: &impl Publisher,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let mut shutdown = pin!(shutdown.fuse());
        loop {
            let pulled = tokio::select! {
                biased;
                () = &mut shutdown => return,
                pulled = self.pull() => pulled,
            };
            let mut messages = pulled.into_iter();
            let mut pause = None;
            while pause.is_none()
                && let Some(message) = messages.next()
            {
                if shutdown.as_mut().now_or_never().is_some() {
                    give_back(&message, Duration::ZERO).await;
                    return give_all_back(messages, Duration::ZERO).await;
                }
                pause = self.take(message, taker).await;
            }
            if let Some(pause) = pause {
                give_all_back(messages, pause).await;
                tokio::select! {
                    biased;
                    () = &mut shutdown => return,
                    () = sleep(pause) => {}
                }
            }
        }
    }

    /// What is there now, or else the next that comes. Nothing after a while without any, or after
    /// a moment when the server is away.
    async fn pull(&self) -> Vec<jetstream::Message> {
        let Some(connection) = Connection::of(&self.client) else {
            sleep(AWAY).await;
            return Vec::new();
        };
        let pulling = async {
            let there = self.consumer.fetch().max_messages(self.most());
            let (there, _) = all(there.messages().await.ok()?, &connection).await;
            if !there.is_empty() {
                return Some(there);
            }
            let next = self.consumer.batch().max_messages(1).expires(PULL);
            let (next, ended_well) = all(next.messages().await.ok()?, &connection).await;
            (ended_well || !next.is_empty()).then_some(next)
        };
        // Each has a deadline of its own, which the server keeps while it is there.
        let pulled = timeout(PULL * 3, pulling).await;
        if let Ok(Some(pulled)) = pulled {
            return pulled;
        }
        // The server is away, or its consumer is. It must not be asked without a pause.
        sleep(AWAY).await;
        Vec::new()
    }

    /// As many as the server hands out before one of them is acknowledged.
    fn most(&self) -> usize {
        let pending = self.consumer.cached_info().config.max_ack_pending;
        match usize::try_from(pending) {
            Ok(pending) if pending > 0 => self.batch.min(pending),
            _ => self.batch,
        }
    }

    /// Hands one on, and says to the server what became of it. Some: nothing is taken for so long.
    async fn take(&self, message: jetstream::Message, taker: &impl Publisher) -> Option<Duration> {
        let received = match Received::read(message) {
            Ok(received) => received,
            Err(unreadable) => {
                tracing::warn!(
                    why = unreadable.why(),
                    "a message of the stream is terminated"
                );
                // It comes again, and is rejected again.
                let _ = unreadable.reject().await;
                return None;
            }
        };
        let ack_wait = self.consumer.cached_info().config.ack_wait;
        let ack_wait = if ack_wait.is_zero() {
            ACK_WAIT
        } else {
            ack_wait
        };
        let delivery = std::slice::from_ref(received.delivery());
        // By then the server has handed it out again.
        let taken = timeout(ack_wait, taker.publish(delivery)).await;
        let taken = taken.ok().and_then(|answers| answers.into_iter().next());
        let silent = || Err(PublishError::unknown("who takes it did not answer"));
        let Err(error) = taken.unwrap_or_else(silent) else {
            // A lost word costs another delivery, which the inbox has taken before.
            let _ = received.done().await;
            return None;
        };
        if error.kind() == PublishErrorKind::RefusedForGood {
            tracing::warn!(
                why = error.reason(),
                "a message is refused for good, and terminated"
            );
            let _ = received.reject().await;
            return None;
        }
        let wait = self.wait(received.delivery(), &error);
        let _ = received.later(wait).await;
        error.is_about_all().then_some(wait)
    }

    /// How long a message stays away that was not taken.
    fn wait(&self, delivery: &Delivery, error: &PublishError) -> Duration {
        let nth = usize::try_from(delivery.attempt().saturating_sub(1).min(STEPS));
        let mut delays = self.backoff.delays_with(Dice::random());
        let delay = delays.nth(nth.unwrap_or_default()).unwrap_or_default();
        delay.max(error.retry_after().unwrap_or_default())
    }
}

/// All of a pull, as long as its connection stands; and whether the server ended it as it should.
async fn all(
    mut messages: jetstream::consumer::pull::Batch,
    connection: &Connection,
) -> (Vec<jetstream::Message>, bool) {
    let mut all = Vec::new();
    let mut lost = pin!(connection.lost());
    loop {
        tokio::select! {
            biased;
            next = messages.next() => match next {
                Some(Ok(message)) => all.push(message),
                Some(Err(_)) => return (all, false),
                None => return (all, true),
            },
            () = &mut lost => return (all, false),
        }
    }
}

async fn give_all_back(messages: impl Iterator<Item = jetstream::Message>, wait: Duration) {
    for message in messages {
        give_back(&message, wait).await;
    }
}

/// It comes again, to whoever is there.
async fn give_back(message: &jetstream::Message, wait: Duration) {
    let wait = (!wait.is_zero()).then_some(wait);
    // Unheard, it comes again after `ack_wait`.
    let _ = message.ack_with(jetstream::AckKind::Nak(wait)).await;
}

impl fmt::Debug for NatsConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConsumer")
            .field("stream", &self.consumer.cached_info().stream_name)
            .field("consumer", &self.consumer.cached_info().name)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}
