//! One bandwidth: so many permits per so long, and how they are counted.

use std::{num::NonZeroU32, time::Duration};

use crate::{PolicyError, machine::Rule};

/// How permits are counted.
///
/// | algorithm | in any window of one period | state of a key | refused ones may come back |
/// | --- | --- | --- | --- |
/// | token bucket | at most burst + permits | one word | as soon as one permit has flowed in |
/// | by interval | at most burst + permits | one word | at the next multiple of the period |
/// | fixed window | at most twice the permits | one word | with the next window |
/// | sliding window | less than twice the permits; the weighted count never exceeds them | three words | when enough of the last window has slid out |
/// | sliding log | at most the permits | a time for each | when enough of them are a period old |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// A token bucket, refilled evenly: the generic cell rate algorithm (ITU-T I.371).
    #[default]
    TokenBucket,
    /// A token bucket into which all permits of a period fall at once, at its end. Periods are
    /// counted from the clock's start; in a store from 1970, so they are those of the calendar.
    Interval,
    /// So many in each window; windows are counted as intervals are.
    FixedWindow,
    /// The sliding window counter: the last window's count is weighted by how much of it is still
    /// within a period. Cheap, and an estimate: it takes the last window's permits for evenly spread.
    SlidingWindow,
    /// The sliding window log: exact, and keeps the time of every permit. In process only.
    SlidingLog,
}

/// So many permits per so long. Checked when a [`Quota`](crate::Quota) is made of it.
///
/// ```
/// use std::time::Duration;
/// use buttress_rate_limiter::{Bandwidth, Quota};
///
/// let logins = Quota::new(Bandwidth::per(5, Duration::from_secs(900)).sliding_log())?;
/// # drop(logins);
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Bandwidth {
    pub(super) algorithm: Algorithm,
    pub(super) permits: u64,
    pub(super) period: Duration,
    pub(super) burst: Option<u64>,
}

impl Bandwidth {
    /// The most permits of a sliding log: it keeps the time of each.
    pub const LONGEST_LOG: u64 = 10_000;
    const LONGEST_PERIOD: Duration = Duration::from_secs(366 * 86_400);
    const MOST_PERMITS: u64 = 1_000_000_000;

    /// So many permits in `period`: a token bucket, unless another algorithm is chosen.
    pub const fn per(permits: u64, period: Duration) -> Self {
        Self {
            algorithm: Algorithm::TokenBucket,
            permits,
            period,
            burst: None,
        }
    }

    /// So many permits a second.
    pub const fn per_second(permits: u64) -> Self {
        Self::per(permits, Duration::from_secs(1))
    }

    /// So many permits a minute.
    pub const fn per_minute(permits: u64) -> Self {
        Self::per(permits, Duration::from_secs(60))
    }

    /// So many permits an hour.
    pub const fn per_hour(permits: u64) -> Self {
        Self::per(permits, Duration::from_secs(3600))
    }

    /// So many permits in 24 hours.
    pub const fn per_day(permits: u64) -> Self {
        Self::per(permits, Duration::from_secs(86_400))
    }

    /// How many may be taken at once after a rest. For token buckets, greedy or by interval.
    pub const fn burst(mut self, burst: u64) -> Self {
        self.burst = Some(burst);
        self
    }

    /// All permits of a period come at once, at its end.
    pub const fn by_interval(mut self) -> Self {
        self.algorithm = Algorithm::Interval;
        self
    }

    /// So many in each window.
    pub const fn fixed_window(mut self) -> Self {
        self.algorithm = Algorithm::FixedWindow;
        self
    }

    /// So many in a window that slides, by a weighted count of two.
    pub const fn sliding_window(mut self) -> Self {
        self.algorithm = Algorithm::SlidingWindow;
        self
    }

    /// So many in any window, exactly.
    pub const fn sliding_log(mut self) -> Self {
        self.algorithm = Algorithm::SlidingLog;
        self
    }

    /// By another algorithm.
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// How its permits are counted.
    #[must_use]
    pub const fn counted_by(&self) -> Algorithm {
        self.algorithm
    }

    /// How many come in a period.
    #[must_use]
    pub const fn permits(&self) -> u64 {
        self.permits
    }

    /// The period.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// The most that can ever be taken at once.
    #[must_use]
    pub const fn most(&self) -> u64 {
        match self.burst {
            Some(burst) => burst,
            None => self.permits,
        }
    }

    /// What each of so many instances may give out, so that together they keep to this. Rounded down,
    /// but for the one permit that each has.
    pub(super) fn shared_by(self, instances: NonZeroU32) -> Self {
        let (count, of) = (u64::from(instances.get()), instances.get());
        let burst = self.burst.map(|burst| (burst / count).max(1));
        if self.permits.is_multiple_of(count) {
            let permits = self.permits / count;
            return Self {
                permits,
                burst,
                ..self
            };
        }
        if self.algorithm == Algorithm::TokenBucket {
            // It flows in evenly: as many in so many times the period are exactly the rate.
            return Self {
                period: self.period.saturating_mul(of),
                burst: Some((self.most() / count).max(1)),
                ..self
            };
        }
        if self.permits > count {
            let permits = self.permits / count;
            return Self {
                permits,
                burst,
                ..self
            };
        }
        // Less than one in a period: one in so many of them.
        let periods = count.div_ceil(self.permits);
        let periods = u32::try_from(periods).unwrap_or(of);
        Self {
            permits: 1,
            period: self.period.saturating_mul(periods),
            burst: burst.map(|_| 1),
            ..self
        }
    }

    pub(super) fn check(&self) -> Result<(), PolicyError> {
        if !(1..=Self::MOST_PERMITS).contains(&self.permits) {
            return Err(PolicyError::new("permits", "1 to 1000000000"));
        }
        if !(Duration::from_nanos(1)..=Self::LONGEST_PERIOD).contains(&self.period) {
            return Err(PolicyError::new("period", "1 ns to 366 days"));
        }
        if u128::from(self.permits) > self.period.as_nanos() {
            return Err(PolicyError::new("permits", "at most one a nanosecond"));
        }
        if self.burst == Some(0) {
            return Err(PolicyError::new("burst", "at least 1"));
        }
        match self.algorithm {
            Algorithm::TokenBucket | Algorithm::Interval => {}
            _ if self.burst.is_some() => {
                return Err(PolicyError::new("burst", "left out for windows"));
            }
            Algorithm::SlidingLog if self.permits > Self::LONGEST_LOG => {
                return Err(PolicyError::new("permits", "1 to 10000 for a sliding log"));
            }
            Algorithm::FixedWindow | Algorithm::SlidingWindow | Algorithm::SlidingLog => {}
        }
        Rule::in_process(self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bandwidths() -> impl Strategy<Value = Bandwidth> {
        let algorithm = prop_oneof![
            Just(Algorithm::TokenBucket),
            Just(Algorithm::Interval),
            Just(Algorithm::FixedWindow),
            Just(Algorithm::SlidingWindow),
        ];
        let (permits, burst) = (1_u64..100_000, prop::option::of(1_u64..100_000));
        (algorithm, permits, 1_u64..86_400, burst).prop_map(
            |(algorithm, permits, period, burst)| {
                let bandwidth = Bandwidth::per(permits, Duration::from_secs(period));
                let bandwidth = bandwidth.algorithm(algorithm);
                match (algorithm, burst) {
                    (Algorithm::TokenBucket | Algorithm::Interval, Some(burst)) => {
                        bandwidth.burst(burst)
                    }
                    _ => bandwidth,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn shares_are_together_no_more_than_the_whole(whole in bandwidths(), instances in 1_u32..300) {
            let share = whole.shared_by(NonZeroU32::new(instances).unwrap());
            share.check().unwrap();
            let all = u128::from(instances);
            // In permits a nanosecond, by the other's period.
            let rate = all * u128::from(share.permits) * whole.period.as_nanos();
            prop_assert!(rate <= u128::from(whole.permits) * share.period.as_nanos());
            let most = u128::from(whole.most()).max(all);
            prop_assert!(all * u128::from(share.most()) <= most);
            if whole.algorithm == Algorithm::TokenBucket {
                prop_assert_eq!(rate, u128::from(whole.permits) * share.period.as_nanos());
            }
            if instances == 1 {
                prop_assert_eq!(share, whole);
            }
        }
    }
}
