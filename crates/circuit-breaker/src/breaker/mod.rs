//! The handle.

mod builder;
mod core;
#[cfg(feature = "fleet")]
mod fleet;
mod waiting;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{ByResult, Clock, Moment, Rejection};

pub use self::builder::CircuitBreakerBuilder;
pub(crate) use self::{
    core::Core,
    waiting::{acquire, acquire_blocking},
};
use crate::{
    Call, Counts, Isolation, OwnedPermit, Permit, Policy, PolicyError, Snapshot, State,
    machine::Told,
};

/// Stops calling what is failing, and tries again later.
///
/// Cheap to clone; clones share one state. Closed, a call takes no lock.
///
/// ```
/// use buttress_circuit_breaker::CircuitBreaker;
/// use buttress_core::CallError;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # async fn charge() -> Result<u64, std::io::Error> { Ok(7) }
/// let payments = CircuitBreaker::new("payments");
/// match payments.call(charge()).await {
///     Ok(receipt) => println!("paid: {receipt}"),
///     Err(CallError::Failed(error)) => println!("payments said no: {error}"),
///     Err(CallError::Rejected(rejection)) => println!("not even asked: {rejection}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    core: Arc<Core>,
}

impl CircuitBreaker {
    /// A closed breaker with the default [`Policy`]. The name is for logs, metrics and rejections.
    #[must_use]
    pub fn new(name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::builder(name).build()
    }

    /// To choose policy, clock, observers and one's own rules.
    pub fn builder(name: impl Into<std::borrow::Cow<'static, str>>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(name.into())
    }

    /// Makes a call, unless the breaker rejects it; then the future is dropped unpolled.
    ///
    /// An `Err` is a failure; [`Call::by`] judges otherwise. Nothing happens before the first
    /// poll. Dropping the future drops the call, gives back its permit, and counts as the policy's
    /// [`Abandoned`](crate::Abandoned) says. A panic in the call is a failure, and goes on.
    #[inline]
    pub fn call<F>(&self, future: F) -> Call<'_, F, ByResult> {
        Call::new(self, future)
    }

    /// Makes a call, or, when it is rejected, takes what `fallback` makes of the rejection. What
    /// the call itself returns is left as it is. [`Call::fallback`] does the same for a call that
    /// is judged by a classifier.
    ///
    /// # Errors
    ///
    /// The call's own, or the fallback's.
    pub async fn call_with<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>>,
        fallback: impl FnOnce(Rejection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.call(future).fallback(fallback).await
    }

    /// A permit for one call, at once or not at all.
    ///
    /// # Errors
    ///
    /// When the call must not be made now; the rejection says when it may, where that can be told.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Rejection> {
        Ok(Permit::new(&self.core, self.core.acquire()?))
    }

    /// The same for a task of its own.
    ///
    /// # Errors
    ///
    /// As [`CircuitBreaker::try_acquire`].
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit, Rejection> {
        let ticket = self.core.acquire()?;
        Ok(OwnedPermit::new(Arc::clone(&self.core), ticket))
    }

    /// A permit for one call. Half-open and out of probes, it waits as long as the policy's
    /// `half_open_wait` says, on tokio's timer, for a free slot or the verdict.
    ///
    /// Dropping the future while it waits leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`CircuitBreaker::try_acquire`].
    pub async fn acquire(&self) -> Result<Permit<'_>, Rejection> {
        let ticket = acquire(&self.core).await?;
        Ok(Permit::new(&self.core, ticket))
    }

    /// The same for a task of its own.
    ///
    /// # Errors
    ///
    /// As [`CircuitBreaker::try_acquire`].
    pub async fn acquire_owned(&self) -> Result<OwnedPermit, Rejection> {
        let ticket = acquire(&self.core).await?;
        Ok(OwnedPermit::new(Arc::clone(&self.core), ticket))
    }

    /// Opens it for as long as the policy says for a first opening without jitter's chance.
    pub fn open(&self) {
        let policy = self.core.policy();
        self.open_for(policy.open_time.duration(0, None, 1 << 63));
    }

    /// Opens it for so long. Then it is half-open, as always.
    pub fn open_for(&self, duration: Duration) {
        self.open_until(self.core.now().saturating_add(duration));
    }

    /// Opens it until that moment of its [`clock`](CircuitBreaker::clock).
    pub fn open_until(&self, until: Moment) {
        self.tell(Told::Open { until });
    }

    /// Rejects all calls until another state is asked for.
    pub fn force_open(&self) {
        self.tell(Told::ForcedOpen);
    }

    /// Lets all calls through and counts nothing, until another state is asked for.
    pub fn disable(&self) {
        self.tell(Told::Disabled);
    }

    /// Lets all calls through and counts them, and only says when a threshold is reached.
    pub fn metrics_only(&self) {
        self.tell(Told::MetricsOnly);
    }

    /// Closes it, with an empty window. Also what ends every other state by hand.
    pub fn close(&self) {
        // Before it is closed: what others saw until now is no longer news to it.
        let now = self.core.now().as_nanos();
        self.core.closed_by_hand.fetch_max(now, Relaxed);
        self.tell(Told::Closed);
    }

    fn tell(&self, told: Told) {
        self.core.moved(self.core.cell.set(told));
    }

    /// Rejects all calls as long as anybody holds such an [`Isolation`]. After the last one it is
    /// again what it was before.
    pub fn isolate(&self) -> Isolation {
        self.core.moved(self.core.cell.isolate());
        Isolation::new(Arc::clone(&self.core))
    }

    /// Another policy from now on. The state and what has been counted stay; a half-open round
    /// that is under way begins anew where its rules changed.
    ///
    /// # Errors
    ///
    /// When the policy has another window: what was counted would not fit.
    pub fn set_policy(&self, policy: Policy) -> Result<(), PolicyError> {
        self.core.set_policy(policy)
    }

    /// The policy that holds now.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.core.policy()
    }

    /// What it is now. Looking changes nothing: open past its time it is still open, until a call
    /// makes it half-open.
    #[must_use]
    pub fn state(&self) -> State {
        self.core.cell.word().state()
    }

    /// What is counted now: the window, or, half-open, the probes.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.core.cell.counts(self.core.now())
    }

    /// How long it is still open: zero when its time is over, `None` when it is not open.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.core.cell.remaining(|| self.core.now())
    }

    /// How often it has opened since it was last closed.
    #[must_use]
    pub fn openings(&self) -> u32 {
        self.core.cell.openings()
    }

    /// Results that came after the state had changed, and decided nothing.
    #[must_use]
    pub fn late_results(&self) -> u64 {
        self.core.late.load(Relaxed)
    }

    /// Its state, to be kept over a restart. See
    /// [`CircuitBreakerBuilder::restore`](CircuitBreakerBuilder::restore).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.core)
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The clock that it is told the time by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// Whether nobody else holds it, nor a permit of it that outlives the borrow.
    pub(crate) fn is_held_once(&self) -> bool {
        Arc::strong_count(&self.core) == 1
    }

    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    #[inline]
    pub(crate) fn core_ref(&self) -> &Core {
        &self.core
    }
}
