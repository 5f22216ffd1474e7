//! The loop-style handle, where no closure will do.

use std::{fmt, time::Duration};

use buttress_core::{ByResult, CallError, Classify};

use crate::{
    Attempt, Deadline, Failure, Retry, RetryError,
    progress::{May, Past, Progress, how},
};

/// A call in a loop of your own: you make the attempts, it decides and waits.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_retry_backoff::{Retry, RetryPolicy};
///
/// # struct Connection(u8);
/// # impl Connection {
/// #     async fn send(&mut self) -> Result<u8, std::io::Error> { self.0 += 1; Ok(self.0) }
/// # }
/// let retry = Retry::new("mail", RetryPolicy::default());
/// let mut connection = Connection(0);
/// let mut attempts = retry.attempts();
/// let sent = loop {
///     match connection.send().await {
///         Ok(sent) => break attempts.succeeded(sent),
///         Err(error) => attempts.failed(error).await?, // waits, or gives up
///     }
/// };
/// assert_eq!(sent, 1);
/// # Ok(())
/// # }
/// ```
///
/// It cannot drop an attempt that takes too long, for it does not have it: give
/// [`Attempt::limit`] to a timeout of your own, and say [`Attempts::timed_out`].
pub struct Attempts<E> {
    retry: Retry,
    progress: Progress,
    past: Past<E>,
}

impl<E> Attempts<E> {
    pub(crate) fn new(retry: Retry) -> Self {
        Self {
            progress: Progress::begin(&retry, None),
            retry,
            past: Past::default(),
        }
    }

    /// Limits it all to `at_most` from now, where the policy does not limit it more.
    #[must_use]
    pub fn within(mut self, at_most: Duration) -> Self {
        self.progress.limit(&self.retry, at_most);
        self
    }

    /// The same until `deadline`.
    #[must_use]
    pub fn until(self, deadline: &Deadline) -> Self {
        self.within(deadline.left())
    }

    /// The attempt that is to be made, or under way.
    #[must_use]
    pub fn current(&self) -> Attempt<'_, E> {
        self.progress.attempt(&self.retry, Some(&self.past))
    }

    /// Says that the attempt succeeded, and hands `value` through.
    #[must_use]
    pub fn succeeded<T>(mut self, value: T) -> T {
        self.progress.succeeded(&self.retry, Some(&self.past));
        value
    }

    /// The attempt failed and may be repeated: waits until it is time for the next.
    ///
    /// Dropping the future ends the wait early; the failure has been counted.
    ///
    /// # Errors
    ///
    /// When there is no next one: `error` with the reason.
    pub async fn failed(&mut self, error: E) -> Result<(), RetryError<E>> {
        self.judged(Failure::Failed(error), &ByResult, true).await
    }

    /// The same, if `classifier` says that it was not done; also if that is unknown, when
    /// `idempotent`.
    ///
    /// # Errors
    ///
    /// As [`Attempts::failed`].
    pub async fn failed_as(
        &mut self,
        error: E,
        classifier: &impl Classify<(), E>,
        idempotent: bool,
    ) -> Result<(), RetryError<E>> {
        self.judged(Failure::Failed(error), classifier, idempotent)
            .await
    }

    /// The same for an attempt through a breaker or a limiter, whose rejections are not repeated
    /// blindly.
    ///
    /// # Errors
    ///
    /// As [`Attempts::failed`].
    pub async fn failed_wrapped(
        &mut self,
        error: CallError<E>,
        classifier: &impl Classify<(), E>,
        idempotent: bool,
    ) -> Result<(), RetryError<E>> {
        self.judged(error.into(), classifier, idempotent).await
    }

    /// The attempt was dropped after `limit`: repeated only when `idempotent`.
    ///
    /// # Errors
    ///
    /// As [`Attempts::failed`].
    pub async fn timed_out(
        &mut self,
        limit: Duration,
        idempotent: bool,
    ) -> Result<(), RetryError<E>> {
        let failure = Failure::TimedOut(crate::TimedOut::new(limit));
        self.judged(failure, &ByResult, idempotent).await
    }

    async fn judged(
        &mut self,
        failure: Failure<E>,
        classifier: &impl Classify<(), E>,
        idempotent: bool,
    ) -> Result<(), RetryError<E>> {
        let how = how(&failure, |error| classifier.classify(Err(error)));
        self.past.move_on(&self.retry);
        let machine = &mut self.past.machine;
        let wait = match self
            .progress
            .failed(&self.retry, machine, how, May::call(idempotent))
        {
            Ok(wait) => wait,
            Err(stopped) => {
                let past = std::mem::take(&mut self.past);
                return Err(self.progress.error(&self.retry, past, failure, stopped));
            }
        };
        self.past.keep(Some(failure));
        // Tokio's timer would make a millisecond of none.
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        if self.progress.is_over(&self.retry) {
            let past = std::mem::take(&mut self.past);
            return Err(self.progress.too_late(&self.retry, Some(past)));
        }
        Ok(())
    }
}

impl<E> fmt::Debug for Attempts<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts")
            .field("retry", &self.retry)
            .field("attempts", &self.past.machine.attempts())
            .finish_non_exhaustive()
    }
}
