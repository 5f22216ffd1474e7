//! One call while it is described: the operation, who judges it, what holds for it alone.

use std::{borrow::Borrow, fmt, marker::PhantomData, time::Duration};

use buttress_core::{ByResult, CallError, Classify, Verdict};

pub use crate::blocking::{
    Blocking, BlockingOperation, BlockingWith, BlockingWrapped, BlockingWrappedWith,
};
use crate::{Attempt, Deadline, Failure, Retry, Retrying};

/// A call that is about to be made. It begins when it is awaited.
///
/// | what an attempt came to | again? |
/// | --- | --- |
/// | `Ok` | no |
/// | `Err`, and no classifier was given | yes: who hands an operation to a retry and says no more says that it may be repeated |
/// | `Err` or `Ok`, judged by [`Call::classify`] as not done | yes |
/// | judged as unknown, or timed out | only after [`Call::idempotent`] (or when no classifier was given) |
/// | judged as final | no |
///
/// The last result stands: an `Ok` that was judged a failure comes back as `Ok` when there is no
/// further attempt.
#[must_use = "a call is made by awaiting it"]
#[derive(Clone)]
pub struct Call<R, O, C = ByResult> {
    pub(crate) retry: R,
    pub(crate) operation: O,
    pub(crate) classifier: C,
    repeat: Repeat,
    pub(crate) within: Option<Duration>,
}

/// May it be done twice?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    /// Nobody said, and nobody judges.
    Assumed,
    Refused,
    Allowed,
}

impl<R, O> Call<R, O> {
    #[inline]
    pub(crate) const fn new(retry: R, operation: O) -> Self {
        Self {
            retry,
            operation,
            classifier: ByResult,
            repeat: Repeat::Assumed,
            within: None,
        }
    }
}

impl<R, O, C> Call<R, O, C> {
    fn judged_by<D>(self, classifier: D) -> Call<R, O, D> {
        Call {
            retry: self.retry,
            operation: self.operation,
            classifier,
            repeat: self.repeat,
            within: self.within,
        }
    }

    /// Judges each result by `classifier`. From then on what is unknown is not repeated, unless
    /// the call is [idempotent](Call::idempotent).
    pub fn classify<D>(self, classifier: D) -> Call<R, O, D>
    where
        O: Fallible,
        D: Classify<O::Value, O::Error>,
    {
        let mut call = self.judged_by(classifier);
        if call.repeat == Repeat::Assumed {
            call.repeat = Repeat::Refused;
        }
        call
    }

    /// Repeats those errors of which `again` says so, and no others.
    pub fn when<P>(self, again: P) -> Call<R, O, When<P>>
    where
        O: Fallible,
        P: Fn(&O::Error) -> bool,
    {
        self.judged_by(When { again })
    }

    /// Says that the operation may be done twice with one effect, so what is unknown is repeated.
    pub fn idempotent(mut self) -> Self {
        self.repeat = Repeat::Allowed;
        self
    }

    /// Limits this call to `at_most`, waits and attempts, where the policy does not limit it more.
    pub fn within(mut self, at_most: Duration) -> Self {
        let earlier = self.within.unwrap_or(Duration::MAX);
        self.within = Some(earlier.min(at_most));
        self
    }

    /// The same until `deadline`: of what calls this, say. When it is over already, no attempt is
    /// made.
    pub fn until(self, deadline: &Deadline) -> Self {
        self.within(deadline.left())
    }

    #[inline]
    pub(crate) fn repeatable(&self) -> bool {
        self.repeat != Repeat::Refused
    }
}

impl<R, F, C> Call<R, Plain<F>, C> {
    /// Says that the operation is wrapped by a breaker or a limiter: [`Retry::call_wrapped`].
    pub fn wrapped<Fut, T, E>(self) -> Call<R, Wrapped<F>, C>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, CallError<E>>>,
    {
        Call {
            retry: self.retry,
            operation: Wrapped::new(self.operation.operation),
            classifier: self.classifier,
            repeat: self.repeat,
            within: self.within,
        }
    }
}

impl<R, O, C> IntoFuture for Call<R, O, C>
where
    R: Borrow<Retry>,
    O: Operation,
    C: Classify<O::Value, O::Error>,
{
    type Output = Result<O::Value, crate::RetryError<O::Error>>;
    type IntoFuture = Retrying<R, O, C>;

    /// Makes the first attempt's future.
    #[inline(always)]
    fn into_future(self) -> Retrying<R, O, C> {
        Retrying::begin(self)
    }
}

impl<R: Borrow<Retry>, O, C> fmt::Debug for Call<R, O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("retry", self.retry.borrow())
            .field("repeat", &self.repeat)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

/// Judges as the closure of [`Call::when`] says.
#[derive(Clone, Copy, Debug)]
pub struct When<P> {
    again: P,
}

impl<T, E, P: Fn(&E) -> bool> Classify<T, E> for When<P> {
    fn classify(&self, result: Result<&T, &E>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(error) if (self.again)(error) => Verdict::unknown(),
            Err(_) => Verdict::refused(),
        }
    }
}

/// What comes out of an operation. Not to be implemented elsewhere.
pub trait Fallible: sealed::Sealed {
    /// What it gives.
    type Value;
    /// Its own error.
    type Error;
}

/// What can be tried: made of a closure by [`Retry::call`] and its like. Not to be implemented
/// elsewhere.
pub trait Operation: Fallible {
    /// One attempt.
    type Future: Future;

    /// Begins an attempt.
    fn begin(&mut self, attempt: Attempt<'_, Self::Error>) -> Self::Future;

    /// Whether a further attempt can be begun beside those that are under way.
    fn is_there(&self) -> bool {
        true
    }

    /// What the attempt came to.
    ///
    /// # Errors
    ///
    /// When the attempt failed.
    fn split(output: <Self::Future as Future>::Output)
    -> Result<Self::Value, Failure<Self::Error>>;
}

pub(crate) mod sealed {
    /// Keeps the trait ours.
    #[expect(unnameable_types, reason = "that is how it keeps it")]
    pub trait Sealed {}
}

/// An operation that knows nothing and fails with its own error.
#[derive(Clone, Copy, Debug)]
pub struct Plain<F> {
    operation: F,
}

/// An operation that fails with a [`CallError`].
#[derive(Clone, Copy, Debug)]
pub struct Wrapped<F> {
    operation: F,
}

/// An operation that is told about its attempt.
#[derive(Clone, Copy, Debug)]
pub struct WithAttempt<F, E> {
    operation: F,
    error: PhantomData<fn() -> E>,
}

impl<F> Plain<F> {
    #[inline]
    pub(crate) const fn new(operation: F) -> Self {
        Self { operation }
    }
}

impl<F> Wrapped<F> {
    #[inline]
    pub(crate) const fn new(operation: F) -> Self {
        Self { operation }
    }
}

impl<F, E> WithAttempt<F, E> {
    #[inline]
    pub(crate) const fn new(operation: F) -> Self {
        Self {
            operation,
            error: PhantomData,
        }
    }
}

/// An operation that is told about its attempt, and fails with a [`CallError`].
#[derive(Clone, Copy, Debug)]
pub struct WrappedWithAttempt<F, E> {
    operation: F,
    error: PhantomData<fn() -> E>,
}

impl<F, E> WrappedWithAttempt<F, E> {
    #[inline]
    pub(crate) const fn new(operation: F) -> Self {
        Self {
            operation,
            error: PhantomData,
        }
    }
}

impl<F, E> sealed::Sealed for WrappedWithAttempt<F, E> {}
impl<F> sealed::Sealed for Plain<F> {}
impl<F> sealed::Sealed for Wrapped<F> {}
impl<F, E> sealed::Sealed for WithAttempt<F, E> {}

impl<F, Fut, T, E> Fallible for Plain<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Value = T;
    type Error = E;
}

impl<F, Fut, T, E> Operation for Plain<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Future = Fut;

    #[inline]
    fn begin(&mut self, _: Attempt<'_, E>) -> Fut {
        (self.operation)()
    }

    #[inline]
    fn split(output: Result<T, E>) -> Result<T, Failure<E>> {
        output.map_err(Failure::Failed)
    }
}

impl<F, Fut, T, E> Fallible for Wrapped<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, CallError<E>>>,
{
    type Value = T;
    type Error = E;
}

impl<F, Fut, T, E> Operation for Wrapped<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, CallError<E>>>,
{
    type Future = Fut;

    #[inline]
    fn begin(&mut self, _: Attempt<'_, E>) -> Fut {
        (self.operation)()
    }

    #[inline]
    fn split(output: Result<T, CallError<E>>) -> Result<T, Failure<E>> {
        output.map_err(Failure::from)
    }
}

impl<F, Fut, T, E> Fallible for WithAttempt<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Value = T;
    type Error = E;
}

impl<F, Fut, T, E> Operation for WithAttempt<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Future = Fut;

    fn begin(&mut self, attempt: Attempt<'_, E>) -> Fut {
        (self.operation)(attempt)
    }

    #[inline]
    fn split(output: Result<T, E>) -> Result<T, Failure<E>> {
        output.map_err(Failure::Failed)
    }
}

impl<F, Fut, T, E> Fallible for WrappedWithAttempt<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Fut,
    Fut: Future<Output = Result<T, CallError<E>>>,
{
    type Value = T;
    type Error = E;
}

impl<F, Fut, T, E> Operation for WrappedWithAttempt<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Fut,
    Fut: Future<Output = Result<T, CallError<E>>>,
{
    type Future = Fut;

    fn begin(&mut self, attempt: Attempt<'_, E>) -> Fut {
        (self.operation)(attempt)
    }

    #[inline]
    fn split(output: Result<T, CallError<E>>) -> Result<T, Failure<E>> {
        output.map_err(Failure::from)
    }
}

/// `fetch.retry(&retry).await`: for every closure that makes a future of a `Result`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_retry_backoff::{Retry, RetryExt, RetryPolicy};
///
/// let retry = Retry::new("rates", RetryPolicy::default());
/// let fetch = || async { Ok::<_, std::io::Error>(7) };
/// assert_eq!(fetch.retry(&retry).await?, 7);
/// # Ok(())
/// # }
/// ```
pub trait RetryExt: Sized {
    /// This operation, tried again as `retry` says: `&Retry` to borrow it, or `Retry`. One that
    /// fails with a [`CallError`] needs [`Call::wrapped`] after it.
    fn retry<R: Borrow<Retry>>(self, retry: R) -> Call<R, Plain<Self>>;
}

impl<F, Fut, T, E> RetryExt for F
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    #[inline]
    fn retry<R: Borrow<Retry>>(self, retry: R) -> Call<R, Plain<F>> {
        Call::new(retry, Plain::new(self))
    }
}
