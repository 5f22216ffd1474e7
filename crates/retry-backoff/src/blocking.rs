//! Calls that block their thread.

use std::{borrow::Borrow, time::Duration};

use buttress_core::{Class, Classify};

use crate::{
    Failure, Retry, RetryError,
    call::{Blocking, Call},
    machine::How,
    progress::{May, Past, Progress},
};

impl<R, F, C> Call<R, Blocking<F>, C> {
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
    pub fn run<T, E>(self) -> Result<T, RetryError<E>>
    where
        R: Borrow<Retry>,
        F: FnMut() -> Result<T, E>,
        C: Classify<T, E>,
    {
        let repeatable = self.repeatable();
        let retry = self.retry.borrow();
        let mut operation = self.operation.operation;
        let mut progress = Progress::begin(retry, self.within);
        let mut past = None::<Past<E>>;
        loop {
            if progress.is_over(retry) {
                return Err(progress.too_late(retry, past));
            }
            let (result, how) = match operation() {
                Ok(value) => {
                    let verdict = self.classifier.classify(Ok(&value));
                    if verdict.class() == Class::Done {
                        progress.succeeded(retry, past.as_ref());
                        return Ok(value);
                    }
                    (Ok(value), How::Judged(verdict))
                }
                Err(error) => {
                    let verdict = self.classifier.classify(Err(&error));
                    (Err(Failure::Failed(error)), How::Judged(verdict))
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
    reason = "a blocking call blocks, and says so in its name"
)]
fn sleep(wait: Duration) {
    if !wait.is_zero() {
        std::thread::sleep(wait);
    }
}
