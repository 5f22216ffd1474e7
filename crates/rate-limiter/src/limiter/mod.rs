//! A limiter in process: one state for all who hold it.

mod builder;
mod reservation;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{CallError, Clock, Registered, Rejection};

pub use self::{builder::RateLimiterBuilder, reservation::Reservation};
use crate::{
    Carry, Decision, EventKind, PolicyError, Quota,
    cell::{Gcra, Judged},
    machine::{Plan, Ruling},
    queue::Queue,
    told::Told,
};

/// So many per so long, for all who hold it. Cheap to clone; clones are the same limiter.
///
/// A greedy token bucket is decided by one compare and swap; everything else under a lock that is
/// held for the decision alone. A clock that stands still gives out the burst and no more; nothing that
/// the clock does gives out more than the quota.
///
/// ```
/// use buttress_rate_limiter::{Quota, RateLimiter};
///
/// let mails = RateLimiter::new("mails", Quota::per_minute(2)?)?;
/// assert!(mails.check().is_allowed() && mails.check().is_allowed());
/// let refused = mails.check();
/// assert!(!refused.is_allowed());
/// assert!(refused.retry_after().unwrap().as_secs() < 30); // half a minute for one permit
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct RateLimiter {
    core: Arc<Core>,
}

pub(crate) struct Core {
    gcra: Gcra,
    clock: Clock,
    told: Told,
    shadow: AtomicBool,
    queue: Queue,
    quota: RwLock<Quota>,
}

impl RateLimiter {
    /// A limiter of this quota. Its name is for logs, metrics and rejections.
    ///
    /// # Errors
    ///
    /// A quota that cannot work; one that was built can.
    pub fn new(name: impl Into<Cow<'static, str>>, quota: Quota) -> Result<Self, PolicyError> {
        Self::builder(name, quota).build()
    }

    /// Chooses more than the quota.
    pub fn builder(name: impl Into<Cow<'static, str>>, quota: Quota) -> RateLimiterBuilder {
        RateLimiterBuilder::new(name.into(), quota)
    }

    /// Takes one permit if it is there. Never waits.
    #[inline]
    pub fn check(&self) -> Decision {
        self.check_n(1)
    }

    /// Takes so many permits if all are there, else none. No permits are always allowed, and tell what
    /// is left.
    #[inline]
    pub fn check_n(&self, permits: u64) -> Decision {
        let core = &*self.core;
        let between = || {
            let (earliest, latest) = core.clock.bounds();
            (earliest.as_nanos(), latest.as_nanos())
        };
        let (judged, owed, wait) = core.gcra.judge(between, || self.again(), permits, 0);
        let allowed = judged == Judged::Allowed;
        if judged == Judged::Elsewhere {
            return self.slow(permits);
        }
        if core.told.is_silent_of(allowed) && (allowed || !core.shadow.load(Relaxed)) {
            return Decision::new(core.gcra.ruling(judged, owed, wait), 1);
        }
        self.told_of(judged, owed, wait, permits)
    }

    /// What [`check`](Self::check) would say, without taking anything.
    pub fn peek(&self) -> Decision {
        self.peek_n(1)
    }

    /// What [`check_n`](Self::check_n) would say, without taking anything.
    pub fn peek_n(&self, permits: u64) -> Decision {
        Decision::new(self.core.gcra.look(|| self.now(), permits), 1)
    }

    /// One permit as `?` likes it.
    ///
    /// # Errors
    ///
    /// [`Rejection`], which knows when to come back.
    pub fn acquire(&self) -> Result<Decision, Rejection> {
        self.check().into_result(self.core.told.name.clone())
    }

    /// Runs `operation` if a permit is there.
    ///
    /// Dropping the future drops the operation; the permit stays taken.
    ///
    /// # Errors
    ///
    /// The rejection, or the operation's own error.
    pub async fn call<T, E>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        let _taken = self.acquire()?;
        operation.await.map_err(CallError::Failed)
    }

    /// Waits for one permit, in line: who came first is served first, and as many may wait as the
    /// builder says (1024). [`check`](Self::check) does not stand in the line: mixed with it, a permit
    /// may go to one who did not wait.
    ///
    /// Dropping the future leaves the line; no permit is lost.
    ///
    /// # Errors
    ///
    /// [`Rejection`], when too many wait.
    pub async fn until_ready(&self) -> Result<Decision, Rejection> {
        self.until_ready_within(1, Duration::MAX).await
    }

    /// Waits for so many permits, and no longer than `patience`: if those who wait and what is asked
    /// for need longer than that, it says so at once.
    ///
    /// Dropping the future leaves the line; no permit is lost.
    ///
    /// # Errors
    ///
    /// [`Rejection`], when too many wait, it takes too long, or there can never be so many at once.
    pub async fn until_ready_within(
        &self,
        permits: u64,
        patience: Duration,
    ) -> Result<Decision, Rejection> {
        let core = &*self.core;
        let (ask, flow) = (|| self.check_quietly(permits), |all| self.flow(all));
        if let Some(decision) = core.queue.at_once(ask) {
            return Ok(decision);
        }
        core.queue
            .wait(&core.told, permits, patience, ask, flow)
            .await
    }

    /// [`until_ready_within`](Self::until_ready_within), by blocking this thread. Async and blocked
    /// waiters stand in one line.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn until_ready_blocking(
        &self,
        permits: u64,
        patience: Duration,
    ) -> Result<Decision, Rejection> {
        let core = &*self.core;
        let (ask, flow) = (|| self.check_quietly(permits), |all| self.flow(all));
        if let Some(decision) = core.queue.at_once(ask) {
            return Ok(decision);
        }
        core.queue
            .wait_blocking(&core.told, permits, patience, ask, flow)
    }

    /// Takes permits that are there within `patience`, now, to be used when its time has come. For a
    /// quota of token buckets and fixed windows; windows that slide grant only what is there already.
    ///
    /// # Errors
    ///
    /// The refusal, when it would take longer, or there can never be so many at once.
    pub fn reserve(&self, permits: u64, patience: Duration) -> Result<Reservation, Decision> {
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX - 1);
        let decision = Decision::new(self.take(permits, patience), 1);
        // What it waits for counts from the time it was judged by, which was no later.
        let now = self.core.clock.now();
        if !decision.is_allowed() {
            return Err(self.core.told.decided(decision, permits, false));
        }
        let decision = self.core.told.decided(decision, permits, false);
        Ok(Reservation::new(self.clone(), permits, decision, now))
    }

    /// Takes permits whether they are there or not: debt. For costs that are known only afterwards.
    /// The decision refuses while more is owed than the burst, and its wait is until then.
    pub fn force(&self, permits: u64) -> Decision {
        Decision::new(self.core.gcra.force(|| self.now(), permits), 1)
    }

    /// Gives permits back that were taken and not used. Never more than a full burst is there.
    pub fn give_back(&self, permits: u64) {
        self.core.gcra.give_back(|| self.now(), permits);
        self.core.queue.wake();
    }

    /// Goes on by another quota, at once, with what is left as `carry` says. Who waits in line waits by the
    /// new one.
    ///
    /// A call that races with the change is decided by either.
    ///
    /// # Errors
    ///
    /// A quota that cannot work; then the old one holds.
    pub fn set_quota(&self, quota: Quota, carry: Carry) -> Result<(), PolicyError> {
        let plan = Plan::in_process(&quota)?;
        {
            let held = self.core.quota.write();
            let mut held = held.unwrap_or_else(PoisonError::into_inner);
            self.core.gcra.set_plan(|| self.now(), plan, carry);
            *held = quota;
        }
        self.core.queue.wake();
        self.core.told.tell(EventKind::QuotaChanged);
        Ok(())
    }

    /// The quota it goes by now.
    #[must_use]
    pub fn quota(&self) -> Quota {
        let held = self.core.quota.read();
        held.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In shadow it decides, tells its observers what it would refuse, and lets everything through.
    pub fn set_shadow(&self, shadow: bool) {
        self.core.shadow.store(shadow, Relaxed);
        self.core.queue.wake();
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.told.name
    }

    /// How many wait in line.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.core.queue.waiting()
    }

    #[cold]
    #[inline(never)]
    fn slow(&self, permits: u64) -> Decision {
        let ruling = self.take(permits, 0);
        self.decided(ruling, permits)
    }

    #[cold]
    #[inline(never)]
    fn told_of(&self, judged: Judged, owed: u64, wait: u64, permits: u64) -> Decision {
        let ruling = self.core.gcra.ruling(judged, owed, wait);
        self.decided(ruling, permits)
    }

    fn decided(&self, ruling: Ruling, permits: u64) -> Decision {
        let core = &*self.core;
        let shadow = !ruling.allowed && core.shadow.load(Relaxed);
        core.told.decided(Decision::new(ruling, 1), permits, shadow)
    }

    /// For one who waits: a refusal is no event, for he asks again.
    fn check_quietly(&self, permits: u64) -> Decision {
        let ruling = self.take(permits, 0);
        if ruling.allowed || self.core.shadow.load(Relaxed) {
            return self.decided(ruling, permits);
        }
        Decision::new(ruling, 1)
    }

    fn take(&self, permits: u64, patience: u64) -> Ruling {
        let (now, again) = (|| self.now(), || self.again());
        self.core.gcra.take(now, again, permits, patience)
    }

    fn flow(&self, permits: u64) -> Duration {
        Duration::from_nanos(self.core.gcra.flow(|| self.now(), permits))
    }

    #[inline]
    fn now(&self) -> u64 {
        self.core.clock.now().as_nanos()
    }

    /// The second look: in order, and off the path of those who need only one.
    #[cold]
    #[inline(never)]
    fn again(&self) -> u64 {
        self.core.clock.now_in_order().as_nanos()
    }

    fn clock(&self) -> &Clock {
        &self.core.clock
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("name", &self.name())
            .field("now", &self.peek_n(0))
            .finish_non_exhaustive()
    }
}

impl Registered for Core {
    fn pattern(&self) -> &'static str {
        "rate_limiter"
    }

    fn name(&self) -> &str {
        &self.told.name
    }

    fn state(&self) -> &'static str {
        let look = self.gcra.look(|| self.clock.now().as_nanos(), 1);
        if look.allowed { "open" } else { "used_up" }
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let look = self.gcra.look(|| self.clock.now().as_nanos(), 0);
        let now = Decision::new(look, 1);
        each("buttress_rate_limiter_limit", now.limit());
        each("buttress_rate_limiter_remaining", now.remaining());
        each("buttress_rate_limiter_waiting", self.queue.waiting() as u64);
    }
}
