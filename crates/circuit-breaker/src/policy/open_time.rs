//! How long a breaker stays open.

use std::time::Duration;

use crate::{Cause, Counts, PolicyError};

/// For how long a breaker opens.
///
/// The n-th opening in a row, counted from 0, lasts `first × growthⁿ`, spread evenly over
/// `± jitter` of that, and at most `cap`. A breaker that has closed begins anew. A server's
/// `Retry-After` that is longer is honoured, up to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTime {
    pub(super) first: Duration,
    pub(super) growth_percent: u32,
    pub(super) cap: Duration,
    pub(super) jitter_percent: u32,
}

impl OpenTime {
    /// Always the same time, without jitter.
    #[must_use]
    pub const fn fixed(duration: Duration) -> Self {
        Self {
            first: duration,
            growth_percent: 100,
            cap: duration,
            jitter_percent: 0,
        }
    }

    /// Doubled with each opening in a row, up to `cap`, ± 20 %. Both are from 1 ms to a year.
    #[must_use]
    pub const fn growing(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            growth_percent: 200,
            cap,
            jitter_percent: 20,
        }
    }

    /// Grows to this percentage of the one before: 200 doubles. From 100 to 1000.
    #[must_use]
    pub const fn with_growth_percent(mut self, percent: u32) -> Self {
        self.growth_percent = percent;
        self
    }

    /// Spread over so many percent less and more. From 0 to 100.
    #[must_use]
    pub const fn with_jitter_percent(mut self, percent: u32) -> Self {
        self.jitter_percent = percent;
        self
    }

    pub(super) fn check(&self) -> Result<(), PolicyError> {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        let ms = Duration::from_millis(1);
        let refuse = |field, range| Err(PolicyError::new(field, range));
        if !(ms..=year).contains(&self.first) {
            return refuse("open_time", "from 1 ms to a year");
        }
        if !(self.first..=year).contains(&self.cap) {
            return refuse("open_time_cap", "from the first open time to a year");
        }
        if !(100..=1000).contains(&self.growth_percent) {
            return refuse("open_time_growth_percent", "from 100 to 1000");
        }
        if self.jitter_percent > 100 {
            return refuse("open_time_jitter_percent", "from 0 to 100");
        }
        Ok(())
    }

    /// The time of this opening. `random` is any number, evenly distributed.
    pub(crate) fn duration(
        &self,
        openings: u32,
        retry_after: Option<Duration>,
        random: u64,
    ) -> Duration {
        let (cap, mut nanos) = (self.cap.as_nanos(), self.first.as_nanos());
        for _ in 0..openings {
            let grown = nanos.saturating_mul(self.growth_percent.into()) / 100;
            if nanos >= cap || grown == nanos {
                break;
            }
            nanos = grown;
        }
        // From - jitter to + jitter, in steps of a 2^32th.
        let spread = nanos.min(cap).saturating_mul(self.jitter_percent.into()) / 100;
        let chance = u128::from(random >> 32);
        let jittered =
            (nanos.min(cap) - spread).saturating_add((2 * spread).saturating_mul(chance) >> 32);
        let wished = retry_after.map_or(0, |it| it.as_nanos());
        let nanos = jittered.max(wished).min(cap).max(1);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// 5 s, doubled with each opening in a row, up to 5 minutes, ± 20 %.
impl Default for OpenTime {
    fn default() -> Self {
        Self::growing(Duration::from_secs(5), Duration::from_secs(5 * 60))
    }
}

/// What is known when a breaker opens: for one's own rule of how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opening {
    /// How often it has opened already since it was last closed: 0 the first time.
    pub openings: u32,
    /// Why it opens.
    pub cause: Cause,
    /// What is in the window; when it opens again from half-open, what the probes came to.
    pub counts: Counts,
    /// For how long the failing call's answer asked to be left alone, if it did.
    pub retry_after: Option<Duration>,
    /// What the policy's [`OpenTime`] would have it be.
    pub by_policy: Duration,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn grows_with_each_opening_up_to_the_cap() {
        let time = OpenTime::growing(SECOND, 10 * SECOND).with_jitter_percent(0);
        let got: Vec<_> = (0..6)
            .map(|n| time.duration(n, None, 7).as_secs())
            .collect();
        assert_eq!(got, [1, 2, 4, 8, 10, 10]);
        assert_eq!(time.duration(u32::MAX, None, 7), 10 * SECOND);
        assert_eq!(OpenTime::fixed(SECOND).duration(u32::MAX, None, 7), SECOND);
    }

    #[test]
    fn is_spread_evenly_and_the_cap_holds_for_jitter_too() {
        let time = OpenTime::growing(10 * SECOND, 11 * SECOND);
        assert_eq!(time.duration(0, None, 0), 8 * SECOND);
        assert_eq!(time.duration(0, None, 1 << 63), 10 * SECOND);
        assert_eq!(time.duration(0, None, u64::MAX), 11 * SECOND);
    }

    #[test]
    fn a_servers_wish_is_honoured_up_to_the_cap() {
        let time = OpenTime::growing(SECOND, 10 * SECOND).with_jitter_percent(0);
        assert_eq!(time.duration(0, Some(3 * SECOND), 0), 3 * SECOND);
        assert_eq!(time.duration(2, Some(3 * SECOND), 0), 4 * SECOND);
        assert_eq!(time.duration(0, Some(Duration::MAX), 0), 10 * SECOND);
    }

    proptest! {
        #[test]
        fn is_never_over_the_cap_and_never_panics(
            first in 1_000_000..u64::MAX, growth in 100..=1000u32, jitter in 0..=100u32,
            openings: u32, random: u64, wish: Option<u64>,
        ) {
            let cap = Duration::from_nanos(first).max(SECOND);
            let time = OpenTime::growing(Duration::from_nanos(first), cap)
                .with_growth_percent(growth)
                .with_jitter_percent(jitter);
            let got = time.duration(openings, wish.map(Duration::from_secs), random);
            prop_assert!(got <= cap && got > Duration::ZERO);
        }
    }
}
