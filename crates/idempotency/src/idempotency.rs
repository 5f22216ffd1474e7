//! The handle.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Class, Clock, Observer, Observers, Registered, Registry};
use buttress_store::{Claim, Fence, LeaseLost, SqlConnection, StoreError, Token};
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Begin, CompleteError, Drained, Event, EventKind, Fingerprint, Guard, IdempotencyError, Policy,
    ScopedKey, Tracked, TransactionGuard, WhenDown,
    store::{Answer, InTransaction, Keeps, Request, Store, Unfinished},
    tracker::{Finishing, Tracker},
};

/// The shortest and the longest pause between two looks at a key that is in flight.
const LOOKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// The same request twice has one effect. Cheap to clone; clones are the same handle.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_idempotency::{Begin, Fingerprint, Idempotency, Key, Scope, store::MemoryStore};
///
/// let idempotency = Idempotency::new(MemoryStore::new());
/// let key = Scope::of(["tenant 7", "POST /orders"]).key(&Key::new("8e03978e")?);
/// let asked = Fingerprint::new(1, [7; 32]); // of what was asked for
/// for comes in ["first", "second"] {
///     match idempotency.begin(&key, &asked).await? {
///         Begin::New(guard) => guard.complete("order 1").await?, // after the work
///         Begin::Replay(outcome) => assert_eq!((comes, &*outcome), ("second", &b"order 1"[..])),
///         Begin::InFlight { .. } | Begin::Mismatch => unreachable!(),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Idempotency {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    name: Cow<'static, str>,
    pub(crate) policy: Policy,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) tracker: Tracker,
    observers: Observers<Event>,
    guards: AtomicI64,
}

/// What is kept of a request, and for whom.
#[derive(Clone)]
pub(crate) struct Payload {
    pub(crate) request: Bytes,
    pub(crate) driver: Cow<'static, str>,
}

impl Payload {
    /// For completers whose handler the program wrote.
    const fn program(request: Bytes) -> Self {
        let driver = Cow::Borrowed("");
        Self { request, driver }
    }
}

impl Idempotency {
    /// A handle on this store, with the default policy.
    pub fn new(store: impl Store + 'static) -> Self {
        Self::builder(store).build()
    }

    /// A handle on this store.
    pub fn builder(store: impl Store + 'static) -> IdempotencyBuilder {
        IdempotencyBuilder {
            name: "idempotency".into(),
            policy: Policy::default(),
            store: Arc::new(store),
            clock: Clock::default(),
            observers: Observers::none(),
            registry: None,
        }
    }

    /// Somebody comes with a key: is it his, was it done, is somebody at it, was it for something
    /// else? One round trip to the store.
    ///
    /// Dropping the future gives back what it may have claimed, on a task of its own.
    ///
    /// # Errors
    ///
    /// When the store does not answer and the policy refuses then.
    pub async fn begin(
        &self,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
    ) -> Result<Begin, IdempotencyError> {
        self.begin_as(key, fingerprint, None).await
    }

    /// The same, and keeps `request` until the work is done: what a [`completer`](Self::completer)
    /// needs to finish it when its client never asks again. It is the user's data and is stored as
    /// it comes; it is gone when the work is completed, and with the record.
    ///
    /// Dropping the future is as with [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin); and when the request is larger than the policy allows, or the
    /// store keeps none. Nothing was claimed then.
    pub async fn begin_keeping(
        &self,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
        request: impl Into<Bytes>,
    ) -> Result<Begin, IdempotencyError> {
        let request = request.into();
        if self.inner.store.keeps() != Keeps::Requests {
            return Err(IdempotencyError::NoRequests);
        }
        let (length, longest) = (request.len(), self.inner.policy.longest_request());
        if length > longest {
            return Err(IdempotencyError::RequestTooLarge { length, longest });
        }
        let payload = Some(Payload::program(request));
        self.begin_as(key, fingerprint, payload).await
    }

    pub(crate) async fn begin_as(
        &self,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
        payload: Option<Payload>,
    ) -> Result<Begin, IdempotencyError> {
        let (inner, key, fingerprint) = (Arc::clone(&self.inner), key.clone(), *fingerprint);
        let asking = async move { inner.begin(key, fingerprint, payload).await };
        // What nobody takes is a guard that is dropped; but of that claim nothing was done yet.
        let begun = Finishing::new(&self.inner.tracker, asking, |begun| match begun {
            Ok(Begin::New(guard)) => Some(Box::pin(async move {
                // Told as an event; the lease runs out in any case.
                let _ = guard.hand_back().await;
            })),
            _ => None,
        });
        begun.await
    }

    /// The same, and where somebody else is at it, waits for him for up to `patience`, looking
    /// again with growing pauses of 10 to 500 ms.
    ///
    /// Dropping the future is as with [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_or_wait(
        &self,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
        patience: Duration,
    ) -> Result<Begin, IdempotencyError> {
        self.begin_within(key, fingerprint, None, patience).await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "tokio's timer strikes it, so it is told by tokio's clock"
    )]
    pub(crate) async fn begin_within(
        &self,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
        payload: Option<Payload>,
        patience: Duration,
    ) -> Result<Begin, IdempotencyError> {
        let until = Instant::now() + patience.min(Duration::from_secs(3600));
        let [mut pause, longest] = LOOKS;
        loop {
            let begun = self.begin_as(key, fingerprint, payload.clone()).await?;
            let Begin::InFlight { retry_after } = begun else {
                return Ok(begun);
            };
            let wait = sleep(pause.min(retry_after));
            if timeout_at(until, wait).await.is_err() {
                return Ok(begun);
            }
            pause = (pause * 2).min(longest);
        }
    }

    /// Somebody comes with a key, in a transaction of yours: the claim, your writes and
    /// [`complete_in`](TransactionGuard::complete_in) are committed together, or not at all. One
    /// statement on your connection. A duplicate elsewhere is told at once that it is in flight,
    /// and does not wait for your transaction.
    ///
    /// On `PostgreSQL` and SQLite. On MySQL a second claim would wait for the first transaction:
    /// there [`begin`](Self::begin) before it and [`complete_in`](Guard::complete_in) it, which is
    /// as safe.
    ///
    /// Dropping the future leaves the connection in the middle of a statement: roll back.
    ///
    /// # Errors
    ///
    /// [`IdempotencyError`], whatever the policy says of a store that is down: roll back.
    pub async fn begin_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        key: &ScopedKey,
        fingerprint: &Fingerprint,
    ) -> Result<Begin<TransactionGuard>, IdempotencyError> {
        let inner = &self.inner;
        if inner.store.in_transaction() != InTransaction::Claims {
            return Err(IdempotencyError::NoTransactions);
        }
        let request = inner.request(key, *fingerprint, Token::random());
        let answer = inner.store.claim_in(connection.lend(), &request).await;
        let answer = answer.inspect_err(|_| inner.failed("claim_in"))?;
        Ok(inner.tell_answer(answer, |fence, passed| {
            TransactionGuard::new(Arc::clone(inner), key.clone(), fence, passed)
        }))
    }

    /// Runs `work` on a task of its own, which goes on when this future is dropped: so a client
    /// that hangs up does not stop in the middle what he will ask for again.
    /// [`drain`](Self::drain) waits for it.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn<F>(&self, work: F) -> Tracked<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.inner.tracker.spawn(work)
    }

    /// For the end of a process: waits until all work that was [spawned](Self::spawn) is done and
    /// all keys are handed back, for at most `bound`; what goes on then is stopped, and its keys
    /// are given a second to be handed back.
    ///
    /// Dropping the future waits no longer, and stops nothing.
    pub async fn drain(&self, bound: Duration) -> Drained {
        self.inner.tracker.drain(bound).await
    }

    /// Up to `limit` keys whose work was begun and not finished, and which nobody has held for
    /// `idle`: for somebody who finishes what a client never asks for again. To take one up, come
    /// with its key, and with what was asked for, as the client would.
    ///
    /// It looks through the whole table; Redis has no list, and shows none.
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub async fn unfinished(
        &self,
        idle: Duration,
        limit: u32,
    ) -> Result<Vec<Unfinished>, IdempotencyError> {
        let found = self.inner.store.unfinished(idle, limit).await;
        Ok(found.inspect_err(|_| self.inner.failed("unfinished"))?)
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Its policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its store.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.inner.store
    }
}

impl Inner {
    async fn begin(
        self: Arc<Self>,
        key: ScopedKey,
        fingerprint: Fingerprint,
        payload: Option<Payload>,
    ) -> Result<Begin, IdempotencyError> {
        let mut request = self.request(&key, fingerprint, Token::random());
        if let Some(payload) = &payload {
            request = request.with_payload(Some(&payload.request));
            request = request.for_driver(&payload.driver);
        }
        // The lease counts from before the call.
        let claim = Claim::new(self.policy.lease(), self.clock.clone());
        let answer = match self.claim(&request).await {
            Ok(answer) => answer,
            Err(_) if self.policy.when_down() == WhenDown::Proceed => {
                self.tell(EventKind::Unprotected);
                return Ok(Begin::New(Guard::unprotected(self, key)));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(self.tell_answer(answer, |fence, passed| {
            Guard::new(Arc::clone(&self), key.clone(), claim.granted(fence), passed)
        }))
    }

    /// Asks once more when nobody knows whether the claim was written: under the same token it is
    /// the same claim.
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        let answer = self.store.claim(request).await;
        let Err(error) = &answer else { return answer };
        self.failed("claim");
        if error.class() != Class::Unknown {
            return answer;
        }
        let answer = self.store.claim(request).await;
        answer.inspect_err(|_| self.failed("claim"))
    }

    const fn request<'a>(
        &self,
        key: &'a ScopedKey,
        fingerprint: Fingerprint,
        token: Token,
    ) -> Request<'a> {
        let (lease, retention) = (self.policy.lease().length(), self.policy.retention());
        Request::new(key, fingerprint, token, lease, retention)
    }

    fn tell_answer<G>(&self, answer: Answer, guard: impl FnOnce(Fence, Bytes) -> G) -> Begin<G> {
        let claimed = |fence: Fence, passed| {
            let epoch = fence.epoch();
            let begun = Begin::New(guard(fence, passed));
            (EventKind::Claimed { epoch }, begun)
        };
        let (kind, begun) = match answer {
            Answer::Claimed(fence) => claimed(fence, Bytes::new()),
            Answer::Resumed(fence, passed) => claimed(fence, passed),
            Answer::Done(outcome) => (EventKind::Replayed, Begin::Replay(outcome)),
            Answer::InFlight { remaining, unknown } => {
                let retry_after = self.retry_after(remaining, unknown);
                (EventKind::InFlight, Begin::InFlight { retry_after })
            }
            Answer::Mismatch => (EventKind::Mismatched, Begin::Mismatch),
        };
        self.tell(kind);
        begun
    }

    /// Of one that runs, an end may come any time; of one in doubt, not before its lease is over.
    fn retry_after(&self, remaining: Duration, unknown: bool) -> Duration {
        let chosen = self.policy.retry_after();
        match remaining {
            Duration::ZERO => chosen,
            remaining if unknown => remaining,
            remaining => remaining.min(chosen),
        }
    }

    pub(crate) fn fitting(&self, outcome: Bytes) -> Result<Bytes, CompleteError> {
        let (length, longest) = (outcome.len(), self.policy.longest_outcome());
        if length > longest {
            return Err(CompleteError::TooLarge { length, longest });
        }
        Ok(outcome)
    }

    pub(crate) async fn complete_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
    ) -> Result<(), CompleteError> {
        let retention = self.policy.retention();
        let lent = connection.lend();
        let completed = self.store.complete_in(lent, key, fence, outcome, retention);
        match completed.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.tell(EventKind::Refused);
                Err(CompleteError::Lost(LeaseLost::Taken))
            }
            Err(error) => {
                self.failed("complete_in");
                Err(error.into())
            }
        }
    }

    pub(crate) fn tell(&self, kind: EventKind) {
        self.observers.tell(|| Event {
            name: self.name.clone(),
            kind,
        });
    }

    pub(crate) fn failed(&self, operation: &'static str) {
        self.tell(EventKind::StoreFailed { operation });
    }

    pub(crate) fn guards(&self, change: i64) {
        self.guards.fetch_add(change, Relaxed);
    }
}

impl Registered for Inner {
    fn pattern(&self) -> &'static str {
        "idempotency"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> &'static str {
        "ready"
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let guards = u64::try_from(self.guards.load(Relaxed)).unwrap_or(0);
        each("buttress_idempotency_in_flight", guards);
        let tasks = u64::try_from(self.tracker.len()).unwrap_or(u64::MAX);
        each("buttress_idempotency_tasks", tasks);
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("name", &self.inner.name)
            .field("policy", &self.inner.policy)
            .field("store", &self.inner.store)
            .finish_non_exhaustive()
    }
}

/// Makes an [`Idempotency`].
#[derive(Clone)]
#[must_use]
pub struct IdempotencyBuilder {
    name: Cow<'static, str>,
    policy: Policy,
    store: Arc<dyn Store>,
    clock: Clock,
    observers: Observers<Event>,
    registry: Option<Registry>,
}

impl IdempotencyBuilder {
    /// What it is called in events and metrics.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// For how long keys are held and kept, and what happens at the edges.
    pub const fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The clock by which it sees its own leases. What counts is the store's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// One more who hears what happens: [`TraceEvents`](crate::TraceEvents), say.
    pub fn observer(mut self, observer: impl Observer<Event> + 'static) -> Self {
        self.observers = self.observers.with(observer);
        self
    }

    /// Lists it there, as long as it lives.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// The handle.
    #[must_use]
    pub fn build(self) -> Idempotency {
        let inner = Arc::new(Inner {
            name: self.name,
            policy: self.policy,
            store: self.store,
            clock: self.clock,
            tracker: Tracker::default(),
            observers: self.observers,
            guards: AtomicI64::new(0),
        });
        if let Some(registry) = self.registry {
            registry.add(&inner);
        }
        Idempotency { inner }
    }
}

impl fmt::Debug for IdempotencyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyBuilder")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
