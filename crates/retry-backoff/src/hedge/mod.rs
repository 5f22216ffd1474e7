//! A second attempt beside a slow first one: the first success wins.

mod future;
mod latency;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buttress_core::{ByResult, CallError, Classify, Clock, Observer, Observers};

pub use self::future::Hedging;
use self::latency::Latencies;
use crate::{
    Attempt, Budget, Event, PolicyError, RetryError,
    call::{Fallible, Operation, Plain, WithAttempt, Wrapped, WrappedWithAttempt},
};

/// When the next attempt is begun beside those that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum HedgeDelay {
    /// After so long without an answer, and at once when an attempt fails. Zero: all at once.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "after_ms", with = "crate::policy::millis")
    )]
    After(Duration),
    /// After as long as all but the slowest few of the last 256 calls took; the clock is read twice
    /// a call for it. At once when an attempt fails.
    Quantile {
        /// How many of a thousand calls are faster, from 1 to 999.
        per_mille: u32,
        /// The delay until 20 calls have been seen.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "before_ms", with = "crate::policy::millis")
        )]
        before: Duration,
    },
    /// Only when an attempt fails.
    OnFailure,
}

/// Begins further attempts of an operation while the first is still under way. Made once, cheap to
/// clone; clones share what they have seen.
///
/// The operation runs more than once at the same time, so **it must be idempotent**. The first
/// success wins and the others are dropped where they stand; a failure that is final ends them
/// all; when all fail, the first attempt's result is what comes out. Give it the budget that your
/// retries pay from: a hedge costs as much as a retry, and without budget none is begun.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use buttress_retry_backoff::hedge::{Hedge, HedgeDelay};
///
/// let hedge = Hedge::new("search", HedgeDelay::After(Duration::from_millis(50)), 1)?;
/// let found = hedge.call(|| async { Ok::<_, std::io::Error>(7) }).await?;
/// assert_eq!(found, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Hedge {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    delay: HedgeDelay,
    most: u32,
    budget: Option<Budget>,
    observers: Observers<Event>,
    clock: Clock,
    latencies: Mutex<Latencies>,
}

impl Hedge {
    /// A handle that begins at most `most` attempts beside the first.
    ///
    /// # Errors
    ///
    /// When `most` is not from 1 to 10, or the quantile not from 1 to 999.
    pub fn new(
        name: impl Into<Arc<str>>,
        delay: HedgeDelay,
        most: u32,
    ) -> Result<Self, PolicyError> {
        if !(1..=10).contains(&most) {
            return Err(PolicyError::new("hedge.most", "from 1 to 10"));
        }
        if matches!(delay, HedgeDelay::Quantile { per_mille, .. } if !(1..1000).contains(&per_mille))
        {
            return Err(PolicyError::new("hedge.per_mille", "from 1 to 999"));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.into(),
                delay,
                most,
                budget: None,
                observers: Observers::none(),
                clock: Clock::tokio(),
                latencies: Mutex::default(),
            }),
        })
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let inner = &*self.inner;
        let mut changed = Inner {
            name: inner.name.clone(),
            delay: inner.delay,
            most: inner.most,
            budget: inner.budget.clone(),
            observers: inner.observers.clone(),
            clock: inner.clock.clone(),
            latencies: Mutex::default(),
        };
        change(&mut changed);
        Self {
            inner: Arc::new(changed),
        }
    }

    /// The same, paying for its hedges from `budget`.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        self.with(|inner| inner.budget = Some(budget))
    }

    /// The same, heard by `observer` too.
    #[must_use]
    pub fn with_observer(self, observer: impl Observer<Event> + 'static) -> Self {
        self.with(|inner| {
            inner.observers = std::mem::take(&mut inner.observers).with(observer);
        })
    }

    /// The same with another clock, which measures latencies; delays are tokio's all the same.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        self.with(|inner| inner.clock = clock)
    }

    /// Calls `operation`, and again beside itself when it is slow or fails. Every error leads to
    /// the next attempt; [`HedgeCall::classify`] says which is final.
    ///
    /// Dropping the future drops all attempts.
    pub fn call<F, Fut, T, E>(&self, operation: F) -> HedgeCall<Plain<F>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        HedgeCall::new(self.clone(), Plain::new(operation))
    }

    /// The same for an operation that fails with a [`CallError`]. A rejection leads to no further
    /// attempt, and what comes out holds no `CallError`.
    pub fn call_wrapped<F, Fut, T, E>(&self, operation: F) -> HedgeCall<Wrapped<F>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, CallError<E>>>,
    {
        HedgeCall::new(self.clone(), Wrapped::new(operation))
    }

    /// The same for an operation that wants to know which attempt it is. It is not told of failures:
    /// others are under way.
    pub fn call_with<F, Fut, T, E>(&self, operation: F) -> HedgeCall<WithAttempt<F, E>>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        HedgeCall::new(self.clone(), WithAttempt::new(operation))
    }

    /// Both: a wrapped operation that wants to know.
    pub fn call_wrapped_with<F, Fut, T, E>(
        &self,
        operation: F,
    ) -> HedgeCall<WrappedWithAttempt<F, E>>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, CallError<E>>>,
    {
        HedgeCall::new(self.clone(), WrappedWithAttempt::new(operation))
    }

    /// How long to wait for an answer before the next attempt; `None`: until one fails.
    fn delay(&self) -> Option<Duration> {
        match self.inner.delay {
            HedgeDelay::After(delay) => Some(delay),
            HedgeDelay::Quantile { per_mille, before } => {
                let latencies = self.inner.latencies.lock();
                let latencies = latencies.unwrap_or_else(PoisonError::into_inner);
                Some(latencies.quantile(per_mille).unwrap_or(before))
            }
            HedgeDelay::OnFailure => None,
        }
    }

    fn measures(&self) -> bool {
        matches!(self.inner.delay, HedgeDelay::Quantile { .. })
    }

    fn seen(&self, latency: Duration) {
        let latencies = self.inner.latencies.lock();
        latencies
            .unwrap_or_else(PoisonError::into_inner)
            .add(latency);
    }
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("name", &self.inner.name)
            .field("delay", &self.inner.delay)
            .field("most", &self.inner.most)
            .field("budget", &self.inner.budget)
            .finish_non_exhaustive()
    }
}

/// A hedged call that is about to be made. It begins when it is awaited.
#[must_use = "a call is made by awaiting it"]
pub struct HedgeCall<O, C = ByResult> {
    hedge: Hedge,
    operation: O,
    classifier: C,
}

impl<O> HedgeCall<O> {
    pub(crate) const fn new(hedge: Hedge, operation: O) -> Self {
        Self {
            hedge,
            operation,
            classifier: ByResult,
        }
    }
}

impl<O, C> HedgeCall<O, C> {
    pub(crate) fn judged_by<D>(self, classifier: D) -> HedgeCall<O, D> {
        HedgeCall {
            hedge: self.hedge,
            operation: self.operation,
            classifier,
        }
    }

    /// Judges each result by `classifier`: what is final ends the call; when a failure says when to
    /// come back, no further attempt is begun before.
    pub fn classify<D>(self, classifier: D) -> HedgeCall<O, D>
    where
        O: Fallible,
        D: Classify<O::Value, O::Error>,
    {
        self.judged_by(classifier)
    }
}

impl<O, C> IntoFuture for HedgeCall<O, C>
where
    O: Operation,
    C: Classify<O::Value, O::Error>,
{
    type Output = Result<O::Value, RetryError<O::Error>>;
    type IntoFuture = Hedging<O, C>;

    fn into_future(self) -> Hedging<O, C> {
        Hedging::begin(self.hedge, self.operation, self.classifier)
    }
}

impl<O, C> fmt::Debug for HedgeCall<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeCall")
            .field("hedge", &self.hedge)
            .finish_non_exhaustive()
    }
}
