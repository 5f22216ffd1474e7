//! The counts of a window, and when they open the breaker.

use std::time::Duration;

use super::ramp::Ramp;
use crate::{Cause, Rate};

/// What a window holds: the results of the last calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Counts {
    /// All that are in the window.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that took longer than the slow threshold, whether they failed or not.
    pub slow: u64,
    /// Those that were slow and failed.
    pub slow_failed: u64,
    /// Those that were dropped without a verdict, where the policy counts them.
    pub abandoned: u64,
}

impl Counts {
    /// Those that succeeded.
    #[must_use]
    pub const fn succeeded(&self) -> u64 {
        self.calls
            .saturating_sub(self.failed)
            .saturating_sub(self.abandoned)
    }

    /// What the thresholds are held against: the calls that say something, and those of them that
    /// failed. Abandoned calls say nothing, except where they are more than half: then each is a
    /// failure.
    #[must_use]
    pub const fn weighed(&self) -> (u64, u64) {
        if self.abandoned * 2 > self.calls {
            (self.calls, self.failed + self.abandoned)
        } else {
            (self.calls.saturating_sub(self.abandoned), self.failed)
        }
    }

    /// The share of failed calls in percent, rounded down; `None` for an empty window. For people:
    /// thresholds are compared exactly.
    #[must_use]
    pub const fn failure_percent(&self) -> Option<u64> {
        let (calls, failed) = self.weighed();
        (failed * 100).checked_div(calls)
    }

    /// The share of slow calls in percent, rounded down; `None` for an empty window.
    #[must_use]
    pub const fn slow_percent(&self) -> Option<u64> {
        let (calls, _) = self.weighed();
        (self.slow * 100).checked_div(calls)
    }
}

/// When counts open the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Of the weighed calls in the window; below it no rate is looked at.
    pub(crate) minimum_calls: u32,
    pub(crate) failure_rate: Option<Rate>,
    pub(crate) slow_rate: Option<Rate>,
    /// A call that takes longer is slow.
    pub(crate) slow_after: Option<Duration>,
    pub(crate) consecutive_failures: Option<u32>,
    /// How it comes back after it has closed.
    pub(crate) ramp: Option<Ramp>,
}

impl Limits {
    /// Whether there are enough calls to look at rates.
    pub(crate) const fn enough(&self, counts: &Counts) -> bool {
        counts.weighed().0 >= self.minimum_calls as u64
    }

    /// Which thresholds the counts have reached, where there are enough of them.
    pub(crate) fn reached(&self, counts: &Counts) -> impl Iterator<Item = Cause> {
        let (calls, failed) = counts.weighed();
        let reached =
            |rate: Option<Rate>, count| rate.is_some_and(|it| it.is_reached_by(count, calls));
        let failure = reached(self.failure_rate, failed).then_some(Cause::FailureRate);
        let slow = reached(self.slow_rate, counts.slow).then_some(Cause::SlowRate);
        failure.into_iter().chain(slow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: u64, failed: u64, slow: u64, abandoned: u64) -> Counts {
        Counts {
            calls,
            failed,
            slow,
            abandoned,
            ..Counts::default()
        }
    }

    #[test]
    fn a_rate_that_is_equal_to_its_threshold_has_reached_it() {
        let limits = Limits {
            minimum_calls: 4,
            failure_rate: Some(Rate::percent(50)),
            slow_rate: Some(Rate::percent(75)),
            slow_after: None,
            consecutive_failures: None,
            ramp: None,
        };
        for (counts, cause) in [
            (counts(4, 1, 2, 0), vec![]),
            (counts(4, 2, 0, 0), vec![Cause::FailureRate]),
            (
                counts(4, 2, 4, 0),
                vec![Cause::FailureRate, Cause::SlowRate],
            ),
            (counts(4, 1, 3, 0), vec![Cause::SlowRate]),
        ] {
            assert_eq!(
                limits.reached(&counts).collect::<Vec<_>>(),
                cause,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn below_the_minimum_of_weighed_calls_there_are_not_enough() {
        let limits = Limits {
            minimum_calls: 4,
            failure_rate: None,
            slow_rate: None,
            slow_after: None,
            consecutive_failures: None,
            ramp: None,
        };
        assert!(!limits.enough(&counts(3, 3, 3, 0)) && limits.enough(&counts(4, 0, 0, 0)));
        assert!(!limits.enough(&counts(5, 0, 0, 2)) && limits.enough(&counts(5, 0, 0, 3)));
    }

    #[test]
    fn abandoned_calls_say_nothing_until_they_are_more_than_half() {
        assert_eq!(counts(10, 2, 0, 5).weighed(), (5, 2));
        assert_eq!(counts(10, 2, 0, 6).weighed(), (10, 8));
        assert_eq!(counts(1, 0, 0, 1).weighed(), (1, 1));
        assert_eq!(counts(0, 0, 0, 0).weighed(), (0, 0));
        assert_eq!(counts(0, 0, 0, 0).failure_percent(), None);
    }
}
