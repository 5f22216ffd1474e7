//! Calls that block their thread.

use std::{borrow::Borrow, fmt, marker::PhantomData, time::Duration};

use buttress_core::{CallError, Class, Classify};

use crate::{
    Attempt, Failure, Retry, RetryError,
    call::{Call, Fallible, sealed::Sealed},
    machine::How,
    progress::{May, Past, Progress, how},
};

/// What can be tried by blocking: made of a closure by [`BlockingRetry`]. Not to be implemented
/// elsewhere.
pub trait BlockingOperation: Fallible {
    /// Makes an attempt.
    ///
    /// # Errors
    ///
    /// When the attempt failed.
    fn attempt(
        &mut self,
        attempt: Attempt<'_, Self::Error>,
    ) -> Result<Self::Value, Failure<Self::Error>>;
}

/// An operation that blocks its thread and fails with its own error.
#[derive(Clone, Copy, Debug)]
pub struct Blocking<F> {
    operation: F,
}

/// The same, failing with a [`CallError`].
#[derive(Clone, Copy, Debug)]
pub struct BlockingWrapped<F> {
    operation: F,
}

/// One that is told about its attempt.
#[derive(Clone, Copy, Debug)]
pub struct BlockingWith<F, E> {
    operation: F,
    error: PhantomData<fn() -> E>,
}

/// The same, failing with a [`CallError`].
#[derive(Clone, Copy, Debug)]
pub struct BlockingWrappedWith<F, E> {
    operation: F,
    error: PhantomData<fn() -> E>,
}

/// A [`Retry`] for operations that block their thread: [`Call::run`] makes the call, and waits by
/// blocking. Not for async code: use `tokio::task::spawn_blocking` around it there. Nothing can stop
/// an attempt that is under way, so time limits hold between attempts only.
///
/// ```
/// use buttress_retry_backoff::{Attempt, Retry, RetryPolicy};
///
/// let retry = Retry::new("lock file", RetryPolicy::default());
/// let read = retry.blocking().call_with(|attempt: Attempt<'_, std::io::Error>| {
///     let _send_along = attempt.left();
///     Ok(attempt.number())
/// });
/// assert_eq!(read.run().unwrap(), 1);
/// ```
#[derive(Clone, Copy)]
pub struct BlockingRetry<'a> {
    retry: &'a Retry,
}

impl<'a> BlockingRetry<'a> {
    pub(crate) const fn new(retry: &'a Retry) -> Self {
        Self { retry }
    }

    /// Calls `operation` as [`Retry::call`] does.
    pub fn call<F, T, E>(self, operation: F) -> Call<&'a Retry, Blocking<F>>
    where
        F: FnMut() -> Result<T, E>,
    {
        Call::new(self.retry, Blocking { operation })
    }

    /// As [`Retry::call_wrapped`].
    pub fn call_wrapped<F, T, E>(self, operation: F) -> Call<&'a Retry, BlockingWrapped<F>>
    where
        F: FnMut() -> Result<T, CallError<E>>,
    {
        Call::new(self.retry, BlockingWrapped { operation })
    }

    /// As [`Retry::call_with`].
    pub fn call_with<F, T, E>(self, operation: F) -> Call<&'a Retry, BlockingWith<F, E>>
    where
        F: FnMut(Attempt<'_, E>) -> Result<T, E>,
    {
        let error = PhantomData;
        Call::new(self.retry, BlockingWith { operation, error })
    }

    /// As [`Retry::call_wrapped_with`].
    pub fn call_wrapped_with<F, T, E>(
        self,
        operation: F,
    ) -> Call<&'a Retry, BlockingWrappedWith<F, E>>
    where
        F: FnMut(Attempt<'_, E>) -> Result<T, CallError<E>>,
    {
        let error = PhantomData;
        Call::new(self.retry, BlockingWrappedWith { operation, error })
    }
}

impl fmt::Debug for BlockingRetry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockingRetry").field(self.retry).finish()
    }
}

impl<F> Sealed for Blocking<F> {}
impl<F> Sealed for BlockingWrapped<F> {}
impl<F, E> Sealed for BlockingWith<F, E> {}
impl<F, E> Sealed for BlockingWrappedWith<F, E> {}

impl<F, T, E> Fallible for Blocking<F>
where
    F: FnMut() -> Result<T, E>,
{
    type Value = T;
    type Error = E;
}

impl<F, T, E> BlockingOperation for Blocking<F>
where
    F: FnMut() -> Result<T, E>,
{
    fn attempt(&mut self, _: Attempt<'_, E>) -> Result<T, Failure<E>> {
        (self.operation)().map_err(Failure::Failed)
    }
}

impl<F, T, E> Fallible for BlockingWrapped<F>
where
    F: FnMut() -> Result<T, CallError<E>>,
{
    type Value = T;
    type Error = E;
}

impl<F, T, E> BlockingOperation for BlockingWrapped<F>
where
    F: FnMut() -> Result<T, CallError<E>>,
{
    fn attempt(&mut self, _: Attempt<'_, E>) -> Result<T, Failure<E>> {
        (self.operation)().map_err(Failure::from)
    }
}

impl<F, T, E> Fallible for BlockingWith<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Result<T, E>,
{
    type Value = T;
    type Error = E;
}

impl<F, T, E> BlockingOperation for BlockingWith<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Result<T, E>,
{
    fn attempt(&mut self, attempt: Attempt<'_, E>) -> Result<T, Failure<E>> {
        (self.operation)(attempt).map_err(Failure::Failed)
    }
}

impl<F, T, E> Fallible for BlockingWrappedWith<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Result<T, CallError<E>>,
{
    type Value = T;
    type Error = E;
}

impl<F, T, E> BlockingOperation for BlockingWrappedWith<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Result<T, CallError<E>>,
{
    fn attempt(&mut self, attempt: Attempt<'_, E>) -> Result<T, Failure<E>> {
        (self.operation)(attempt).map_err(Failure::from)
    }
}

impl<R, O, C> Call<R, O, C>
where
    R: Borrow<Retry>,
    O: BlockingOperation,
    C: Classify<O::Value, O::Error>,
{
    /// Makes the call, and blocks the thread until it is over.
    ///
    /// ```
    /// use buttress_retry_backoff::{Retry, RetryPolicy};
    ///
    /// let retry = Retry::new("lock file", RetryPolicy::default());
    /// let read = retry.call_blocking(|| Ok::<_, std::io::Error>(7)).run();
    /// assert_eq!(read.unwrap(), 7);
    /// ```
    ///
    /// # Errors
    ///
    /// As a call that is awaited; only attempts are not dropped when their time is over.
    pub fn run(self) -> Result<O::Value, RetryError<O::Error>> {
        let repeatable = self.repeatable();
        let retry = self.retry.borrow();
        let mut operation = self.operation;
        let mut progress = Progress::begin(retry, self.within);
        let mut past = None::<Past<O::Error>>;
        loop {
            if progress.is_over(retry) {
                return Err(progress.too_late(retry, past));
            }
            let attempt = progress.attempt(retry, past.as_ref());
            let (result, how) = match operation.attempt(attempt) {
                Ok(value) => {
                    let verdict = self.classifier.classify(Ok(&value));
                    if verdict.class() == Class::Done {
                        progress.succeeded(retry, past.as_ref());
                        return Ok(value);
                    }
                    (Ok(value), How::Judged(verdict))
                }
                Err(failure) => {
                    let how = how(&failure, |error| self.classifier.classify(Err(error)));
                    (Err(failure), how)
                }
            };
            let past = past.get_or_insert_default();
            past.move_on(retry);
            match progress.failed(retry, &mut past.machine, how, May::call(repeatable)) {
                Ok(wait) => {
                    past.keep(result.err());
                    sleep(wait);
                }
                Err(stopped) => {
                    let past = std::mem::take(past);
                    return result.map_err(|last| progress.error(retry, past, last, stopped));
                }
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "who calls this wants his thread blocked"
)]
fn sleep(wait: Duration) {
    if !wait.is_zero() {
        std::thread::sleep(wait);
    }
}
