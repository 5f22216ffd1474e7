//! Times as stores keep them: microseconds since 1970, by the server's clock.

use std::time::{Duration, SystemTime};

/// A time as stores keep it: microseconds since 1970-01-01 00:00 UTC, in a BIGINT.
///
/// In a store that hosts share it is the server who says what time it is
/// ([`Dialect::now_micros`](crate::Dialect::now_micros), Redis' `TIME`), for hosts disagree.
/// Arithmetic saturates: no duration, however hostile, makes it panic or wrap.
///
/// ```
/// use std::time::Duration;
/// use buttress_store::Micros;
///
/// let due = Micros::new(1_000_000) + Duration::from_millis(5);
/// assert_eq!(due.get(), 1_005_000);
/// assert_eq!(due + Duration::MAX, Micros::MAX);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(i64);

impl Micros {
    /// The last time that can be told, in the year 294247: for ever.
    pub const MAX: Self = Self(i64::MAX);

    /// The time `micros` microseconds after 1970; before it, when negative.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970, as they are stored.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// This host's wall clock, for the one store that has no server: SQLite.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "SQLite runs in this process, so this host's clock is the store's own"
    )]
    pub fn of_host() -> Self {
        SystemTime::now().into()
    }

    /// Redis' `TIME`: seconds and microseconds.
    #[must_use]
    pub const fn of_redis(seconds: i64, micros: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000).saturating_add(micros))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        if self.0 <= earlier.0 {
            return Duration::ZERO;
        }
        Duration::from_micros(self.0.abs_diff(earlier.0))
    }
}

impl std::ops::Add<Duration> for Micros {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl std::ops::Sub<Duration> for Micros {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

/// To the microsecond, towards 1970; what cannot be told is the first or the last time that can.
impl From<SystemTime> for Micros {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(micros(before.duration()).saturating_neg()),
        }
    }
}

/// 1970 where the platform cannot tell the time; 64-bit Unix can tell all.
impl From<Micros> for SystemTime {
    fn from(Micros(micros): Micros) -> Self {
        let distance = Duration::from_micros(micros.unsigned_abs());
        let time = if micros < 0 {
            Self::UNIX_EPOCH.checked_sub(distance)
        } else {
            Self::UNIX_EPOCH.checked_add(distance)
        };
        time.unwrap_or(Self::UNIX_EPOCH)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arithmetic_at_the_ends_of_time_saturates() {
        assert_eq!(Micros::MAX + Duration::MAX, Micros::MAX);
        assert_eq!(Micros::new(i64::MIN) - Duration::MAX, Micros::new(i64::MIN));
        assert_eq!(Micros::of_redis(i64::MAX, 1), Micros::MAX);
        let whole = Micros::MAX.saturating_since(Micros::new(i64::MIN));
        assert_eq!(whole, Duration::from_micros(u64::MAX));
        assert_eq!(Micros::new(1).saturating_since(Micros::MAX), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn every_time_comes_back_from_the_systems(micros: i64) {
            let time: SystemTime = Micros::new(micros).into();
            prop_assert_eq!(Micros::from(time), Micros::new(micros));
        }
    }
}
