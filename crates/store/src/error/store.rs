//! What can go wrong in a store, and what the caller should do.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use buttress_core::{Class, Fault, Verdict};

use crate::{
    WrongDialect,
    class::{Judgement, Phase, StoreErrorKind},
    sealed::Sealed,
};

/// A store did not do what it was asked, or did not say so.
///
/// `Display` tells the kind and the server's code in one line, and no value: the driver's own
/// message may hold a row, a bound value or a password. So it is neither shown, nor in `Debug`,
/// nor a `source()`; a program that must have it asks [`driver`](Self::driver).
pub struct StoreError {
    judgement: Judgement,
    phase: Phase,
    retry_after: Option<Duration>,
    driver: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    #[cfg(any(
        feature = "mysql",
        feature = "postgres",
        feature = "redis",
        feature = "sqlite"
    ))]
    fn judged(
        judgement: Judgement,
        phase: Phase,
        driver: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            judgement,
            phase,
            retry_after: None,
            driver: Some(Box::new(driver)),
        }
    }

    /// An error of this kind that struck in this phase, for a store of your own. What it says about
    /// the effect is in the tables of [`class`](crate::class).
    #[must_use]
    pub const fn new(kind: StoreErrorKind, phase: Phase) -> Self {
        Self {
            judgement: Judgement::new(kind, phase),
            phase,
            retry_after: None,
            driver: None,
        }
    }

    pub(crate) const fn left_alone(retry_after: Duration) -> Self {
        let mut error = Self::new(StoreErrorKind::LeftAlone, Phase::Connect);
        error.retry_after = Some(retry_after);
        error
    }

    /// What sqlx said, judged by the phase in which it said it.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    #[must_use]
    pub fn of_sqlx(error: sqlx::Error, phase: Phase) -> Self {
        Self::judged(crate::class::of_sqlx(&error, phase), phase, error)
    }

    /// What sqlx said about a statement of an open transaction: `map_err(StoreError::in_transaction)`.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    #[must_use]
    pub fn in_transaction(error: sqlx::Error) -> Self {
        Self::of_sqlx(error, Phase::InTransaction)
    }

    /// What redis said, judged by the phase in which it said it.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn of_redis(error: redis::RedisError, phase: Phase) -> Self {
        Self::judged(crate::class::of_redis(&error, phase), phase, error)
    }

    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.judgement.kind()
    }

    /// What is known about the effect. [`Class::Unknown`] is never tried again, unless the work is
    /// idempotent by a key.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.judgement.class()
    }

    /// The same with what it says about the store's health, for a breaker.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self.retry_after {
            Some(wait) => self.judgement.verdict().with_retry_after(wait),
            None => self.judgement.verdict(),
        }
    }

    /// How far the work had come.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The server's code: an SQLSTATE, a MySQL number, an SQLite result code, Redis' own first
    /// word, and none that a script made up.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.judgement.code()
    }

    /// After how long it is worth coming back, if that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The driver's own error, to be downcast to `sqlx::Error` or `redis::RedisError`. Do not log
    /// it: it may hold a row or a bound value.
    #[must_use]
    pub fn driver(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.driver.as_deref()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let during = match self.phase {
            Phase::Connect => "a connection was not to be had",
            Phase::Read => "a read failed",
            Phase::InTransaction => "a statement of a transaction failed",
            Phase::Statement => "a statement failed",
            Phase::Commit => "a commit failed",
        };
        write!(f, "{during}: {}", self.kind().words())?;
        if let Some(code) = self.code() {
            write!(f, " ({})", code.escape_debug())?;
        }
        match self.class() {
            Class::Unknown => f.write_str("; whether it was done is unknown"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.kind())
            .field("class", &self.class())
            .field("phase", &self.phase)
            .field("code", &self.code())
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

impl Error for StoreError {}

/// 503 `UNAVAILABLE` for what may be different later, 500 `INTERNAL` for what will not.
impl Fault for StoreError {
    fn code(&self) -> &'static str {
        match self.class() {
            Class::Final => "INTERNAL",
            _ => "UNAVAILABLE",
        }
    }

    fn status(&self) -> u16 {
        match self.class() {
            Class::Final => 500,
            _ => 503,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self.class() {
            Class::Final => "Something went wrong on our side.".into(),
            _ => "The service cannot take requests right now.".into(),
        }
    }

    /// A second where nothing better is known: a 503 without it invites to come back at once.
    fn retry_after(&self) -> Option<Duration> {
        match self.class() {
            Class::Final => None,
            _ => Some(self.retry_after.unwrap_or(Duration::from_secs(1))),
        }
    }
}

impl From<WrongDialect> for StoreError {
    fn from(error: WrongDialect) -> Self {
        Self {
            judgement: Judgement::new(StoreErrorKind::Misused, Phase::Connect),
            phase: Phase::Connect,
            retry_after: None,
            driver: Some(Box::new(error)),
        }
    }
}

/// An error that can be judged: sqlx's, redis', or one that has been already. Sealed.
pub trait DriverError: Sealed + Sized {
    /// The same as a [`StoreError`] that struck in `phase`.
    fn judged(self, phase: Phase) -> StoreError;
}

/// It was judged where it struck, so it stays as it is.
impl DriverError for StoreError {
    fn judged(self, _: Phase) -> StoreError {
        self
    }
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
impl DriverError for sqlx::Error {
    fn judged(self, phase: Phase) -> StoreError {
        StoreError::of_sqlx(self, phase)
    }
}

#[cfg(feature = "redis")]
impl DriverError for redis::RedisError {
    fn judged(self, phase: Phase) -> StoreError {
        StoreError::of_redis(self, phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_commit_is_unknown_and_a_lost_transaction_is_not_done() {
        for (phase, class) in [
            (Phase::Connect, Class::NotDone),
            (Phase::Read, Class::NotDone),
            (Phase::InTransaction, Class::NotDone),
            (Phase::Statement, Class::Unknown),
            (Phase::Commit, Class::Unknown),
        ] {
            for kind in [StoreErrorKind::Lost, StoreErrorKind::Deadline] {
                assert_eq!(StoreError::new(kind, phase).class(), class, "{phase:?}");
            }
        }
    }

    #[test]
    fn it_leaves_a_service_as_503_when_it_may_pass_and_as_500_when_not() {
        let passes = StoreError::left_alone(Duration::from_secs(3));
        assert_eq!(
            (Fault::code(&passes), passes.status()),
            ("UNAVAILABLE", 503)
        );
        assert_eq!(Fault::retry_after(&passes), Some(Duration::from_secs(3)));
        let stays = StoreError::new(StoreErrorKind::Broken, Phase::Read);
        assert_eq!((Fault::code(&stays), stays.status()), ("INTERNAL", 500));
        assert_eq!(Fault::retry_after(&stays), None);
        let lost = StoreError::new(StoreErrorKind::Lost, Phase::Read);
        assert_eq!(Fault::retry_after(&lost), Some(Duration::from_secs(1)));
    }
}
