//! The handle: a policy with a name, and what all its calls share.

use std::{fmt, sync::Arc};

use buttress_core::{CallError, Clock, Observer, Observers, Registered, Registry};

use crate::{
    Attempt, Attempts, BlockingRetry, Budget, Dice, Event, RetryPolicy,
    call::{Blocking, Call, Plain, WithAttempt, Wrapped, WrappedWithAttempt},
};

/// Tries operations again by a policy. Made once, cheap to clone; clones share everything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_retry_backoff::{Retry, RetryPolicy};
///
/// let retry = Retry::new("rates", RetryPolicy::default());
/// let rate = retry.call(|| async { Ok::<_, std::io::Error>(7) }).await?;
/// assert_eq!(rate, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Retry {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Clone)]
pub(crate) struct Inner {
    /// Nothing limits a call's time and nobody is paid: nothing need be done before an attempt.
    pub(crate) plain: bool,
    /// There is no more to it than its policy.
    alone: bool,
    pub(crate) name: Arc<str>,
    pub(crate) policy: RetryPolicy,
    pub(crate) budget: Option<Budget>,
    pub(crate) observers: Observers<Event>,
    pub(crate) clock: Clock,
    pub(crate) dice: Dice,
}

impl Retry {
    /// A handle that nobody listens to. The name is for logs, events and metrics.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, policy: RetryPolicy) -> Self {
        Self {
            inner: Arc::new(Inner {
                plain: policy.is_plain(),
                alone: policy.is_plain(),
                name: name.into(),
                policy,
                budget: None,
                observers: Observers::none(),
                clock: Clock::tokio(),
                dice: Dice::random(),
            }),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        change(inner);
        inner.plain = inner.policy.is_plain() && inner.budget.is_none();
        inner.alone = inner.plain && inner.observers.is_silent() && inner.dice.is_random();
        self
    }

    /// Whether its policy is all that a call needs of it.
    #[cfg(feature = "tower")]
    #[inline]
    pub(crate) fn is_policy_alone(&self) -> bool {
        self.inner.alone
    }

    /// The same, paying for its retries from `budget`, which other handles may share.
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

    /// The same with another clock. Waits are tokio's all the same: the clock is for deadlines.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        self.with(|inner| inner.clock = clock)
    }

    /// The same with other random numbers, for tests and simulations.
    #[must_use]
    pub fn with_dice(self, dice: Dice) -> Self {
        self.with(|inner| inner.dice = dice)
    }

    /// Lists the handle, for as long as it or a clone of it lives.
    pub fn register(&self, registry: &Registry) {
        registry.add(&self.inner);
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its policy.
    #[must_use]
    pub fn policy(&self) -> &RetryPolicy {
        &self.inner.policy
    }

    /// Calls `operation` until it succeeds or a limit is reached; see [`Call`] for what counts as a
    /// failure, and how to change that. The same as `operation.retry(&retry)`. An operation that
    /// fails with a [`CallError`] belongs into [`Retry::call_wrapped`].
    ///
    /// Dropping the future drops the attempt or the wait that is under way.
    #[inline]
    pub fn call<F, Fut, T, E>(&self, operation: F) -> Call<&Self, Plain<F>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Call::new(self, Plain::new(operation))
    }

    /// The same for an operation that is wrapped already, by a breaker or a limiter, and fails with
    /// a [`CallError`]: [`Retry::call`] would take its rejections for errors like any other, for
    /// nothing in Rust's types lets it find out. A rejection is never repeated blindly: without a time to come back the call
    /// gives up at once; with one it waits at least as long, as far as the limits allow. The error
    /// that comes out holds the rejection or your own error, and no `CallError`.
    pub fn call_wrapped<F, Fut, T, E>(&self, operation: F) -> Call<&Self, Wrapped<F>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, CallError<E>>>,
    {
        Call::new(self, Wrapped::new(operation))
    }

    /// The same for an operation that wants to know which attempt it is, how the last one failed,
    /// and how much time is left.
    pub fn call_with<F, Fut, T, E>(&self, operation: F) -> Call<&Self, WithAttempt<F, E>>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        Call::new(self, WithAttempt::new(operation))
    }

    /// Both: a wrapped operation that wants to know.
    pub fn call_wrapped_with<F, Fut, T, E>(
        &self,
        operation: F,
    ) -> Call<&Self, WrappedWithAttempt<F, E>>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, CallError<E>>>,
    {
        Call::new(self, WrappedWithAttempt::new(operation))
    }

    /// All of these for operations that block their thread.
    #[must_use]
    pub const fn blocking(&self) -> BlockingRetry<'_> {
        BlockingRetry::new(self)
    }

    /// The same as `retry.blocking().call(operation)`.
    pub fn call_blocking<F, T, E>(&self, operation: F) -> Call<&Self, Blocking<F>>
    where
        F: FnMut() -> Result<T, E>,
    {
        self.blocking().call(operation)
    }

    /// For a loop of your own, where no closure will do (an operation on `&mut self`, say).
    #[must_use]
    pub fn attempts<E>(&self) -> Attempts<E> {
        Attempts::new(self.clone())
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("name", &self.inner.name)
            .field("policy", &self.inner.policy)
            .field("budget", &self.inner.budget)
            .field("observers", &self.inner.observers)
            .field("clock", &self.inner.clock)
            .field("dice", &self.inner.dice)
            .finish()
    }
}

impl Registered for Inner {
    fn pattern(&self) -> &'static str {
        "retry_backoff"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> &'static str {
        "ready"
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        if let Some(budget) = &self.budget {
            each(
                "buttress_retry_backoff_budget_available",
                budget.available(),
            );
        }
    }
}
