//! How a call that was retried fails: with what, and why it was not tried again.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use buttress_core::{CallError, Fault, Rejection, TimedOut};

/// Why there was no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stopped {
    /// It was refused for good: the same would be refused again.
    Final,
    /// It may have been done, and was not marked as idempotent.
    Unknown,
    /// It was rejected (by a breaker, a limiter) without a time at which to come back.
    Rejected,
    /// As many attempts as the policy allows were made.
    Attempts,
    /// The time for the whole call is over, or would have been over after the next wait: then no
    /// wait was begun.
    Time,
    /// The other side asked for a longer wait than the policy accepts.
    RetryAfter,
    /// The budget for retries is used up.
    Budget,
    /// The request cannot be sent a second time: it, or its body, cannot be had again.
    Unrepeatable,
}

impl Stopped {
    /// The reason in one word, as events and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Unknown => "unknown",
            Self::Rejected => "rejected",
            Self::Attempts => "attempts",
            Self::Time => "time",
            Self::RetryAfter => "retry_after",
            Self::Budget => "budget",
            Self::Unrepeatable => "unrepeatable",
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Final => "it was refused for good",
            Self::Unknown => "it may have been done and is not marked as idempotent",
            Self::Rejected => "it was rejected without a time to come back",
            Self::Attempts => "no attempts are left",
            Self::Time => "no time is left",
            Self::RetryAfter => "the wait that was asked for is too long",
            Self::Budget => "the retry budget is used up",
            Self::Unrepeatable => "the request cannot be sent again",
        })
    }
}

/// How one attempt failed.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a fourth arm would be a fourth way to fail: users match on these three"
)]
pub enum Failure<E> {
    /// It was made, and this is its own error.
    Failed(E),
    /// It was not made: a breaker, a limiter or the like stood in its way.
    Rejected(Rejection),
    /// It was dropped when its time was over. What it did is unknown.
    TimedOut(TimedOut),
}

impl<E> Failure<E> {
    /// The attempt's own error, if it got as far.
    #[must_use]
    pub const fn error(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Rejected(_) | Self::TimedOut(_) => None,
        }
    }
}

/// A call that failed, after one attempt or several: the last failure, and why it was the last.
///
/// The operation's own error is in it unchanged: see [`RetryError::failure`],
/// [`RetryError::into_failure`]. Its rejections are too; a `CallError` is taken apart on the way
/// in, so none is ever within another.
#[derive(Debug)]
pub struct RetryError<E> {
    told: Box<Told<E>>,
}

#[derive(Debug)]
struct Told<E> {
    last: Failure<E>,
    earlier: Vec<Failure<E>>,
    stopped: Stopped,
    attempts: u32,
    elapsed: Option<Duration>,
}

impl<E> RetryError<E> {
    pub(crate) fn new(
        last: Failure<E>,
        earlier: Vec<Failure<E>>,
        stopped: Stopped,
        attempts: u32,
        elapsed: Option<Duration>,
    ) -> Self {
        let told = Told {
            last,
            earlier,
            stopped,
            attempts,
            elapsed,
        };
        Self {
            told: Box::new(told),
        }
    }

    /// The service to be called failed before it could be.
    #[cfg(feature = "tower")]
    pub(crate) fn never_ready(failure: Failure<E>) -> Self {
        Self::new(failure, Vec::new(), Stopped::Final, 0, None)
    }

    /// Why there was no further attempt.
    #[must_use]
    pub const fn stopped(&self) -> Stopped {
        self.told.stopped
    }

    /// How many attempts were made.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.told.attempts
    }

    /// How long it all took; `None` when no limit made it read the clock.
    #[must_use]
    pub const fn elapsed(&self) -> Option<Duration> {
        self.told.elapsed
    }

    /// How the last attempt failed.
    #[must_use]
    pub const fn failure(&self) -> &Failure<E> {
        &self.told.last
    }

    /// How the attempts before the last one failed, in their order; empty unless the policy keeps
    /// errors.
    #[must_use]
    pub fn earlier(&self) -> &[Failure<E>] {
        &self.told.earlier
    }

    /// How the last attempt failed, without the rest.
    #[must_use]
    pub fn into_failure(self) -> Failure<E> {
        self.told.last
    }

    /// The last attempt's own error, or `otherwise` of the rejection or the timeout.
    pub fn into_error(self, otherwise: impl FnOnce(Failure<std::convert::Infallible>) -> E) -> E {
        match self.told.last {
            Failure::Failed(error) => error,
            Failure::Rejected(rejection) => otherwise(Failure::Rejected(rejection)),
            Failure::TimedOut(late) => otherwise(Failure::TimedOut(late)),
        }
    }
}

/// For a function that fails with the family's `CallError`. A timeout was no rejection, for it may
/// have had its effect, so it becomes one of your own errors.
impl<E: From<TimedOut>> From<RetryError<E>> for CallError<E> {
    fn from(error: RetryError<E>) -> Self {
        match error.told.last {
            Failure::Failed(error) => Self::Failed(error),
            Failure::Rejected(rejection) => Self::Rejected(rejection),
            Failure::TimedOut(late) => Self::Failed(late.into()),
        }
    }
}

impl<E> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = self.told.attempts;
        let word = if attempts == 1 { "attempt" } else { "attempts" };
        write!(f, "failed after {attempts} {word}: {}", self.told.stopped)
    }
}

impl<E: Error + 'static> Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match &self.told.last {
            Failure::Failed(error) => error,
            Failure::Rejected(rejection) => rejection,
            Failure::TimedOut(late) => late,
        })
    }
}

/// As the last failure leaves; a timeout as 504.
impl<E: Fault + 'static> Fault for RetryError<E> {
    fn code(&self) -> &'static str {
        match &self.told.last {
            Failure::Failed(error) => error.code(),
            Failure::Rejected(rejection) => rejection.code(),
            Failure::TimedOut(late) => late.code(),
        }
    }

    fn status(&self) -> u16 {
        match &self.told.last {
            Failure::Failed(error) => error.status(),
            Failure::Rejected(rejection) => rejection.status(),
            Failure::TimedOut(late) => late.status(),
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match &self.told.last {
            Failure::Failed(error) => error.public_message(),
            Failure::Rejected(rejection) => rejection.public_message(),
            Failure::TimedOut(late) => late.public_message(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match &self.told.last {
            Failure::Failed(error) => error.retry_after(),
            Failure::Rejected(rejection) => rejection.retry_after(),
            Failure::TimedOut(_) => None,
        }
    }
}

/// A wrap's error taken apart, so that none is within another.
impl<E> From<CallError<E>> for Failure<E> {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Failed(error) => Self::Failed(error),
            CallError::Rejected(rejection) => Self::Rejected(rejection),
        }
    }
}
