//! How calls to the services behind the shop fail: one attempt, and a call with all its attempts.

use std::time::Duration;

use buttress_core::{Class, Classify, Verdict};
use buttress_retry_backoff::{Failure, RetryError, http::by_status, reqwest::by_error};

/// An attempt that gave no answer one can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallFailed {
    /// It answered with an error.
    #[error("the service answered with an error")]
    Refused(Verdict),
    /// It could not be reached, or the connection went.
    #[error("the connection to the service failed")]
    Broken(Verdict),
    /// The answer did not come in time; it may have been done.
    #[error("the service did not answer in time")]
    TimedOut,
    /// The answer made no sense; it may have been done.
    #[error("the service's answer could not be read")]
    Unreadable,
}

impl CallFailed {
    /// For a breaker and a retry.
    pub(crate) const fn verdict(self) -> Verdict {
        match self {
            Self::Refused(verdict) | Self::Broken(verdict) => verdict,
            Self::TimedOut | Self::Unreadable => Verdict::unknown(),
        }
    }

    /// The response, unless it is an error.
    pub(super) fn check(response: reqwest::Response) -> Result<reqwest::Response, Self> {
        if response.status().is_success() {
            Ok(response)
        } else {
            let verdict = by_status(response.status(), response.headers());
            Err(Self::Refused(verdict))
        }
    }
}

impl From<reqwest::Error> for CallFailed {
    fn from(error: reqwest::Error) -> Self {
        // A connection that is not made in time was not made: by_error knows.
        if error.is_timeout() && !error.is_connect() {
            Self::TimedOut
        } else {
            Self::Broken(by_error(&error))
        }
    }
}

/// What an attempt came to, for the breaker and for the retry.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByVerdict;

impl<T> Classify<T, CallFailed> for ByVerdict {
    fn classify(&self, result: Result<&T, &CallFailed>) -> Verdict {
        result.map_or_else(|failed| failed.verdict(), |_| Verdict::success())
    }
}

/// A call, retries included, that gave no answer one can use.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Unanswered(#[from] RetryError<CallFailed>);

impl Unanswered {
    /// What the last attempt came to.
    pub(crate) fn failure(&self) -> &Failure<CallFailed> {
        self.0.failure()
    }

    fn attempts(&self) -> impl Iterator<Item = &Failure<CallFailed>> {
        self.0.earlier().iter().chain([self.0.failure()])
    }

    /// Whether the service was asked at all: an open breaker asks nobody.
    pub(crate) fn was_tried(&self) -> bool {
        self.attempts()
            .any(|failure| !matches!(failure, Failure::Rejected(_)))
    }

    /// Whether it may have been done. What one attempt may have done, no later refusal undoes.
    pub(crate) fn may_be_done(&self) -> bool {
        self.attempts().any(|failure| match failure {
            Failure::Failed(failed) => failed.verdict().class() == Class::Unknown,
            Failure::TimedOut(_) => true,
            Failure::Rejected(_) => false,
        })
    }

    /// For how long the service, or the breaker before it, wants to be left alone.
    pub(crate) fn asked_to_wait(&self) -> Option<Duration> {
        match self.0.failure() {
            Failure::Failed(failed) => failed.verdict().retry_after(),
            Failure::Rejected(rejection) => rejection.retry_after(),
            Failure::TimedOut(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use buttress_core::{CallError, Rejection, RejectionKind};
    use buttress_retry_backoff::{Backoff, Retry, RetryPolicy};

    use super::*;

    type Attempt = Result<(), CallError<CallFailed>>;

    async fn unanswered(attempts: [fn() -> Attempt; 2]) -> Unanswered {
        let policy = RetryPolicy::builder().attempts(2).keep_errors();
        let policy = policy.backoff(Backoff::none()).build().unwrap();
        let (retry, made) = (Retry::new("test", policy), Cell::new(0));
        let call = retry.call_wrapped(async || {
            let attempt = made.replace(made.get() + 1);
            attempts[attempt]()
        });
        let call = call.classify(ByVerdict).idempotent();
        Unanswered::from(call.await.unwrap_err())
    }

    fn failed(failed: CallFailed) -> Attempt {
        Err(CallError::Failed(failed))
    }

    #[tokio::test]
    async fn what_one_attempt_may_have_done_no_later_one_takes_back() {
        let late = || failed(CallFailed::TimedOut);
        let refused = || failed(CallFailed::Refused(Verdict::not_done()));
        let rejected = || Err(Rejection::new(RejectionKind::CircuitOpen, "test").into());
        for (attempts, tried, may_be_done) in [
            ([late as fn() -> Attempt, refused], true, true),
            ([late, rejected], true, true),
            ([refused, late], true, true),
            ([refused, refused], true, false),
            ([refused, rejected], true, false),
            ([rejected, rejected], false, false),
        ] {
            let told = unanswered(attempts).await;
            assert_eq!((told.was_tried(), told.may_be_done()), (tried, may_be_done));
        }
    }
}
