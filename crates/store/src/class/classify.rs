//! The tables as judges, for breaker and retry.

use buttress_core::{Classify, Verdict};

use crate::StoreError;
#[cfg(any(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
use crate::class::Phase;

/// Judges what sqlx returns, each error having struck in one phase.
///
/// Name the phase in which the *worst* may strike: for a closure that runs a statement of its own,
/// or a whole transaction and its commit, that is [`Phase::Statement`] or [`Phase::Commit`]. Then
/// a connection that goes is unknown, and repeated only by who says that it is idempotent.
///
/// ```
/// use buttress_core::{Class, Classify};
/// use buttress_store::{Phase, class::BySqlx};
///
/// let cut = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
/// let judge = |phase| BySqlx::new(phase).classify(Err::<&(), _>(&cut())).class();
/// assert_eq!(judge(Phase::Read), Class::NotDone);
/// assert_eq!(judge(Phase::Commit), Class::Unknown);
/// ```
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
#[derive(Clone, Copy, Debug)]
pub struct BySqlx {
    phase: Phase,
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
impl BySqlx {
    /// For what strikes in `phase`.
    #[must_use]
    pub const fn new(phase: Phase) -> Self {
        Self { phase }
    }
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
impl<T> Classify<T, sqlx::Error> for BySqlx {
    fn classify(&self, result: Result<&T, &sqlx::Error>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(error) => super::of_sqlx(error, self.phase).verdict(),
        }
    }
}

/// Judges what the redis crate returns, each error having struck in one phase: [`Phase::Read`] for
/// what has no effect, [`Phase::Statement`] for all else.
#[cfg(feature = "redis")]
#[derive(Clone, Copy, Debug)]
pub struct ByRedis {
    phase: Phase,
}

#[cfg(feature = "redis")]
impl ByRedis {
    /// For what strikes in `phase`.
    #[must_use]
    pub const fn new(phase: Phase) -> Self {
        Self { phase }
    }
}

#[cfg(feature = "redis")]
impl<T> Classify<T, redis::RedisError> for ByRedis {
    fn classify(&self, result: Result<&T, &redis::RedisError>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(error) => super::of_redis(error, self.phase).verdict(),
        }
    }
}

/// Judges what fails with a [`StoreError`], which knows its own phase and when to come back.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct ByStore;

impl<T> Classify<T, StoreError> for ByStore {
    fn classify(&self, result: Result<&T, &StoreError>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(error) => error.verdict(),
        }
    }
}

#[cfg(test)]
mod tests {
    use buttress_core::Class;

    use super::*;
    use crate::{Phase, StoreErrorKind};

    #[test]
    fn a_store_error_is_judged_as_it_says_itself_and_keeps_its_wait() {
        let lost = |phase| StoreError::new(StoreErrorKind::Lost, phase);
        let judge = |error: &StoreError| ByStore.classify(Err::<&(), _>(error));
        assert_eq!(judge(&lost(Phase::Read)).class(), Class::NotDone);
        assert_eq!(judge(&lost(Phase::Commit)).class(), Class::Unknown);
        let wait = std::time::Duration::from_secs(2);
        let alone = judge(&StoreError::left_alone(wait));
        assert_eq!(alone.retry_after(), Some(wait));
        assert_eq!(ByStore.classify(Ok(&())).class(), Class::Done);
    }

    #[cfg(feature = "redis")]
    #[test]
    fn what_redis_says_is_judged_by_its_table_in_the_phase_that_was_named() {
        let busy = redis::RedisError::from((redis::ErrorKind::Io, "gone"));
        for (phase, class) in [
            (Phase::Read, Class::NotDone),
            (Phase::Statement, Class::Unknown),
        ] {
            let verdict = ByRedis::new(phase).classify(Err::<&(), _>(&busy));
            assert_eq!(verdict.class(), class, "{phase:?}");
        }
        assert_eq!(
            ByRedis::new(Phase::Read).classify(Ok(&())).class(),
            Class::Done
        );
    }
}
