//! Several endpoints behind one topic.

mod health;
mod partly;
mod types;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress_core::{Clock, Observer, Observers};
use futures_util::{StreamExt, future::join_all, stream};

pub use self::types::Types;
use self::{health::Health, partly::Partly};
use super::{HttpPublisher, publisher::BEGINNING};
use crate::{Delivery, PolicyError, PublishError, PublishErrorKind, Publisher};

/// How many endpoints there may be: all are asked at once for each message.
const MOST: usize = 64;
/// How many messages are sent at once.
const CONCURRENCY: usize = 4;
/// How many messages are remembered that some have and others have not.
const PARTLY: usize = 10_000;

/// What happened to an endpoint of several.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// Nothing more is sent to it until it is enabled. Tell its owner by another way.
    #[non_exhaustive]
    Disabled {
        /// Its name.
        name: Arc<str>,
        /// Why.
        why: Disabled,
    },
}

/// Why an endpoint was disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disabled {
    /// It answered 410.
    Gone,
    /// It was down for too long.
    DownForTooLong,
}

/// Sends each message of one topic to all endpoints that want its type. Cheap to clone; clones
/// share the endpoints and what is known of them.
///
/// **One topic for each subscriber is the better way**: there, each has a place of his own in the
/// outbox. Here, a message is done when all have taken it. Until then its *key* waits for the
/// slowest, and so do the others; messages of other keys go on. Who was sent what is remembered in
/// this process only (for the last 10,000 messages that some have and others have not): after a
/// restart a message may go once more to those who had it, under the same id.
///
/// - An endpoint that is down is paused, for 1 s, doubled up to 5 minutes, or as long as it asks.
///   It costs the others nothing but the waiting keys, and the message nothing at all.
/// - One that answers 410, or was down for three days on end, is disabled: messages count as done
///   without it, and observers hear of it.
/// - One that refuses a message makes it refused, which counts.
///
/// The relay's publish deadline must be no shorter than the longest
/// [`HttpPublisher::longest_publish`] of them. Dropping the future of `publish` is as with
/// [`HttpPublisher`].
#[derive(Clone)]
pub struct Endpoints {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    next: AtomicU64,
    patience: Duration,
    clock: Clock,
    observers: Observers<EndpointEvent>,
}

struct State {
    subscriptions: BTreeMap<Arc<str>, Subscription>,
    partly: Partly,
}

struct Subscription {
    /// A name that is used again is another endpoint.
    number: u64,
    types: Types,
    publisher: HttpPublisher,
    health: Health,
}

/// What is to be sent: a copy, for no lock is held while it is.
struct Sending {
    name: Arc<str>,
    number: u64,
    publisher: HttpPublisher,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self::new()
    }
}

impl Endpoints {
    /// After so long on end an endpoint that is down is disabled: three days, as long as the
    /// specification's schedule lasts.
    pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(3 * 24 * 3600);

    /// None yet: every message is done at once.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Self::DEFAULT_PATIENCE, Clock::default(), Observers::none())
    }

    fn with(patience: Duration, clock: Clock, observers: Observers<EndpointEvent>) -> Self {
        let state = State {
            subscriptions: BTreeMap::new(),
            partly: Partly::new(PARTLY),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                next: AtomicU64::new(0),
                patience,
                clock,
                observers,
            }),
        }
    }

    /// The same, empty, with another time after which one that is down is disabled, another clock,
    /// and somebody who hears of it.
    #[must_use]
    pub fn observed(
        patience: Duration,
        clock: Clock,
        observer: impl Observer<EndpointEvent> + 'static,
    ) -> Self {
        Self::with(patience, clock, Observers::none().with(observer))
    }

    /// Sends what is wanted to this endpoint too, from the next message on. The same name again
    /// replaces it.
    ///
    /// # Errors
    ///
    /// When there are 64 already.
    pub fn subscribe(
        &self,
        name: impl AsRef<str>,
        types: Types,
        publisher: HttpPublisher,
    ) -> Result<(), PolicyError> {
        let name: Arc<str> = name.as_ref().into();
        let subscription = Subscription {
            number: self.shared.next.fetch_add(1, Ordering::Relaxed),
            types,
            publisher,
            health: Health::new(),
        };
        let mut state = self.shared.lock();
        let subscriptions = &mut state.subscriptions;
        if subscriptions.len() >= MOST && !subscriptions.contains_key(&name) {
            return Err(PolicyError::new("endpoints", "at most 64"));
        }
        subscriptions.insert(name, subscription);
        Ok(())
    }

    /// Sends nothing more to it. Whether there was one.
    #[must_use = "a name that nobody has changes nothing"]
    pub fn unsubscribe(&self, name: &str) -> bool {
        self.shared.lock().subscriptions.remove(name).is_some()
    }

    /// Sends to it again. Whether there is one.
    #[must_use = "a name that nobody has changes nothing"]
    pub fn enable(&self, name: &str) -> bool {
        self.shared.change(name, |subscription| {
            subscription.health.enable();
            subscription.publisher.enable();
        })
    }

    /// Sends nothing to it until it is enabled; messages count as done without it. Whether there
    /// is one.
    #[must_use = "a name that nobody has changes nothing"]
    pub fn disable(&self, name: &str) -> bool {
        self.shared.change(name, |subscription| {
            subscription.health.disable();
        })
    }

    /// Whether it is disabled; `None` if there is none of that name.
    #[must_use]
    pub fn is_disabled(&self, name: &str) -> Option<bool> {
        let state = self.shared.lock();
        let subscription = state.subscriptions.get(name)?;
        Some(subscription.health.is_disabled())
    }

    async fn send(&self, delivery: &Delivery) -> Result<(), PublishError> {
        let (sendings, waits) = self.shared.plan(delivery);
        let sent = sendings.iter().map(|it| it.publisher.send(delivery));
        let answers = join_all(sent).await;
        self.shared.settle(delivery, &sendings, answers, waits)
    }
}

impl Shared {
    /// Nothing that can panic is done under it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Subscription)) -> bool {
        self.lock()
            .subscriptions
            .get_mut(name)
            .map(change)
            .is_some()
    }

    /// Whom to send it to, and what is said of it for those who are paused.
    fn plan(&self, delivery: &Delivery) -> (Vec<Sending>, Option<PublishError>) {
        let message = delivery.message();
        let now = self.clock.now();
        let mut sendings = Vec::new();
        let mut verdict = None;
        let state = self.lock();
        for (name, subscription) in &state.subscriptions {
            let done = subscription.health.is_disabled()
                || !subscription.types.want(message.event_type())
                || state.partly.has(message.id(), subscription.number);
            if done {
                continue;
            }
            if let Some(left) = subscription.health.pause_left(now) {
                let waits = PublishError::unknown("an endpoint that it goes to is down");
                worse(&mut verdict, waits.with_retry_after(left));
                continue;
            }
            sendings.push(Sending {
                name: Arc::clone(name),
                number: subscription.number,
                publisher: subscription.publisher.clone(),
            });
        }
        (sendings, verdict)
    }

    /// What became of the message, and what was learned of those it was sent to.
    fn settle(
        &self,
        delivery: &Delivery,
        sendings: &[Sending],
        answers: Vec<Result<(), PublishError>>,
        mut verdict: Option<PublishError>,
    ) -> Result<(), PublishError> {
        let now = self.clock.now();
        let id = delivery.message().id();
        let mut taken = Vec::new();
        let mut disabled = Vec::new();
        let mut state = self.lock();
        for (sending, answer) in sendings.iter().zip(answers) {
            // One that was replaced or unsubscribed in the meantime has no say any more.
            let subscription = state.subscriptions.get_mut(&sending.name);
            let Some(subscription) = subscription.filter(|it| it.number == sending.number) else {
                continue;
            };
            let health = &mut subscription.health;
            let Err(error) = answer else {
                health.answered();
                taken.push(sending.number);
                continue;
            };
            match error.kind() {
                PublishErrorKind::Gone => {
                    if health.disable() {
                        disabled.push((&sending.name, Disabled::Gone));
                    }
                }
                PublishErrorKind::Down => {
                    if health.is_down(error.retry_after(), now, self.patience) {
                        disabled.push((&sending.name, Disabled::DownForTooLong));
                    } else if !health.is_disabled() {
                        // Not all of the topic: the other endpoints take messages.
                        let waits = PublishError::unknown(error.reason());
                        let left = health.pause_left(now).unwrap_or_default();
                        worse(&mut verdict, waits.with_retry_after(left));
                    }
                }
                kind => {
                    if kind == PublishErrorKind::Refused {
                        health.answered();
                    }
                    worse(&mut verdict, error);
                }
            }
        }
        if verdict.is_some() {
            for number in taken {
                state.partly.note(id, number);
            }
        } else {
            state.partly.forget(id);
        }
        drop(state);
        for (name, why) in disabled {
            let name = Arc::clone(name);
            self.observers
                .tell(|| EndpointEvent::Disabled { name, why });
        }
        verdict.map_or(Ok(()), Err)
    }
}

/// Of two verdicts the one that keeps the message longer: while somebody may still take it, what
/// another refused for good does not end it.
fn worse(verdict: &mut Option<PublishError>, other: PublishError) {
    let rank = |error: &PublishError| match error.kind() {
        PublishErrorKind::RefusedForGood => 0,
        PublishErrorKind::Refused => 1,
        _ => 2,
    };
    if verdict.as_ref().is_none_or(|it| rank(it) < rank(&other)) {
        *verdict = Some(other);
    }
}

#[async_trait::async_trait]
impl Publisher for Endpoints {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let begin = self.shared.clock.now();
        let sent = batch.iter().map(|delivery| async move {
            let elapsed = self.shared.clock.now().saturating_since(begin);
            if elapsed >= BEGINNING {
                return Err(PublishError::skipped());
            }
            self.send(delivery).await
        });
        let sent: Vec<_> = sent.collect();
        stream::iter(sent).buffered(CONCURRENCY).collect().await
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        let names: Vec<_> = state.subscriptions.keys().cloned().collect();
        f.debug_struct("Endpoints")
            .field("names", &names)
            .finish_non_exhaustive()
    }
}
