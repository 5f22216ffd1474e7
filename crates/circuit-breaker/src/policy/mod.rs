//! What a user chooses. What cannot work does not build.

mod builder;
mod open_time;
#[cfg(feature = "serde")]
mod written;

use std::time::Duration;

pub use self::{
    builder::PolicyBuilder,
    open_time::{OpenTime, Opening},
};
use crate::{
    PolicyError, Rate,
    cell::Word,
    machine::{Decides, Limits, Ramp, Rules},
    window::{Buckets, Ring, Window},
};

/// When a breaker opens, for how long, and when it closes again.
///
/// | field | default | allowed |
/// | --- | --- | --- |
/// | window | the last 100 calls | 1 to 10,000 calls, or 100 ms to one day in 2 to 100 buckets of at least 10 ms (10 by default), or none |
/// | minimum calls | 20, or the window if that is smaller | 1 to 1,000,000; at most the window's calls |
/// | failure rate | 50 % | above 0, at most the whole |
/// | slow calls | not looked at | a duration, and a rate like the above |
/// | consecutive failures | not looked at | 1 to 1,000,000 |
/// | probes when half-open | 5 | 1 to 1,000 |
/// | verdict on them | the same rates | another failure rate, or all must succeed |
/// | half-open lasts | at most 60 s | 1 ms to one day, or without limit |
/// | a call beyond the probes | is rejected | may wait, up to one hour |
/// | open time | 5 s, doubled with each opening, at most 5 min, ±20 % | see [`OpenTime`] |
/// | after closing | all calls are let through | a growing share of them, over 1 ms to one hour |
/// | a call dropped without a verdict | is a failure when most are | see [`Abandoned`] |
/// | shadow | off | |
///
/// ```
/// use std::time::Duration;
/// use buttress_circuit_breaker::{OpenTime, Policy, Rate};
///
/// let policy = Policy::builder()
///     .time_window(Duration::from_secs(30))
///     .failure_rate(Rate::percent(25))
///     .slow_calls(Duration::from_secs(2), Rate::percent(80))
///     .open_time(OpenTime::fixed(Duration::from_secs(10)))
///     .build()?;
/// # let _ = policy;
/// let wrong = Policy::builder().failure_rate(Rate::percent(0)).build();
/// assert_eq!(wrong.unwrap_err().field(), "failure_rate");
/// # Ok::<(), buttress_circuit_breaker::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) window: WindowKind,
    minimum_calls: u32,
    failure_rate: Option<Rate>,
    slow: Option<(Duration, Rate)>,
    consecutive_failures: Option<u32>,
    half_open: HalfOpen,
    pub(crate) open_time: OpenTime,
    ramp: Option<Ramp>,
    pub(crate) abandoned: Abandoned,
    pub(crate) shadow: bool,
}

/// What a call counts as that was dropped without a verdict: its future was dropped, or its
/// permit. It always gives back what it held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Abandoned {
    /// As nothing.
    Neutral,
    /// As a failure.
    Failure,
    /// As a failure while more than half of the calls in the window are abandoned, else as
    /// nothing. A timeout outside of the breaker drops every call that hangs: a breaker that
    /// ignored them all would never open, and one that counted each would open when users leave.
    #[default]
    FailureWhenMost,
}

/// What a window is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowKind {
    None,
    Calls(u32),
    Time { duration: Duration, buckets: u32 },
}

/// How the half-open state is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HalfOpen {
    permits: u32,
    verdict: HalfOpenVerdict,
    limit: Option<Duration>,
    /// How long a call beyond the permits may wait.
    wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfOpenVerdict {
    SameRates,
    FailureRate(Rate),
    AllSucceed,
}

impl Policy {
    /// To choose.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// Opens after so many failures in a row, whatever else happened before; no window is kept,
    /// and half-open one probe decides.
    ///
    /// # Errors
    ///
    /// Unless `failures` is from 1 to 1,000,000.
    pub fn consecutive_failures(failures: u32) -> Result<Self, PolicyError> {
        Self::builder()
            .no_window()
            .consecutive_failures(failures)
            .half_open_permits(1)
            .build()
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn has_window(&self) -> bool {
        self.window != WindowKind::None
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            minimum_calls: self.minimum_calls,
            failure_rate: self.failure_rate,
            slow_rate: self.slow.map(|(_, rate)| rate),
            slow_after: self.slow.map(|(after, _)| after),
            consecutive_failures: self.consecutive_failures,
            ramp: self.ramp,
        }
    }

    pub(crate) fn rules(&self) -> Rules {
        let slow = self.slow.map(|(_, rate)| rate);
        let decides = match self.half_open.verdict {
            HalfOpenVerdict::FailureRate(rate) => Decides::Rates {
                failed: Some(rate),
                slow,
            },
            HalfOpenVerdict::SameRates if self.failure_rate.or(slow).is_some() => Decides::Rates {
                failed: self.failure_rate,
                slow,
            },
            HalfOpenVerdict::SameRates | HalfOpenVerdict::AllSucceed => Decides::AllSucceed {
                slow_fails: slow.is_some(),
            },
        };
        Rules {
            permits: self.half_open.permits,
            decides,
            limit: self.half_open.limit,
        }
    }

    pub(crate) const fn wait(&self) -> Duration {
        self.half_open.wait
    }

    pub(crate) fn new_window(&self, tag: u64) -> Window {
        match self.window {
            WindowKind::None => Window::None,
            WindowKind::Calls(calls) => Window::Ring(Ring::new(calls, tag)),
            WindowKind::Time { duration, buckets } => {
                Window::Buckets(Buckets::new(duration, buckets))
            }
        }
    }

    /// All checks. Whatever makes a policy ends here.
    fn checked(self) -> Result<Self, PolicyError> {
        let refuse = |field, range| Err(PolicyError::new(field, range));
        let day = Duration::from_secs(24 * 60 * 60);
        match self.window {
            WindowKind::Calls(calls) if !(1..=Ring::MAX).contains(&calls) => {
                return refuse("count_window", "from 1 to 10000 calls");
            }
            WindowKind::Time { duration, buckets } => {
                if !(Duration::from_millis(100)..=day).contains(&duration) {
                    return refuse("time_window", "from 100 ms to one day");
                }
                if !(2..=100).contains(&buckets) || duration / buckets < Buckets::SHORTEST {
                    return refuse(
                        "time_window_buckets",
                        "from 2 to 100, each of at least 10 ms",
                    );
                }
            }
            WindowKind::None if self.failure_rate.or(self.limits().slow_rate).is_some() => {
                return refuse("failure_rate", "absent where there is no window");
            }
            WindowKind::Calls(_) | WindowKind::None => {}
        }
        let most = match self.window {
            WindowKind::Calls(calls) => calls,
            _ => 1_000_000,
        };
        if !(1..=most).contains(&self.minimum_calls) {
            return refuse(
                "minimum_calls",
                "from 1 to 1000000, and to the window's calls",
            );
        }
        if self.failure_rate.is_some_and(|rate| !rate.is_share()) {
            return refuse(
                "failure_rate",
                "above 0 and at most the whole, in at most millionths",
            );
        }
        if let Some((after, rate)) = self.slow {
            if !rate.is_share() {
                return refuse(
                    "slow_rate",
                    "above 0 and at most the whole, in at most millionths",
                );
            }
            if after > day {
                return refuse("slow_after", "at most one day");
            }
        }
        let consecutive = self.consecutive_failures;
        if consecutive.is_some_and(|it| !(1..=Word::MAX_STREAK).contains(&it)) {
            return refuse("consecutive_failures", "from 1 to 1000000");
        }
        if !(1..=1000).contains(&self.half_open.permits) {
            return refuse("half_open_permits", "from 1 to 1000");
        }
        if let HalfOpenVerdict::FailureRate(rate) = self.half_open.verdict
            && !rate.is_share()
        {
            return refuse(
                "half_open_failure_rate",
                "above 0 and at most the whole, in at most millionths",
            );
        }
        let limit = self.half_open.limit;
        if limit.is_some_and(|it| !(Duration::from_millis(1)..=day).contains(&it)) {
            return refuse("half_open_limit", "from 1 ms to one day");
        }
        if let Some(Ramp { over, first }) = self.ramp {
            let hour = Duration::from_secs(60 * 60);
            if !(Duration::from_millis(1)..=hour).contains(&over) {
                return refuse("ramp_over", "from 1 ms to one hour");
            }
            if !first.is_share() {
                return refuse(
                    "ramp_first",
                    "above 0 and at most the whole, in at most millionths",
                );
            }
        }
        if self.half_open.wait > Duration::from_secs(60 * 60) {
            return refuse("half_open_wait", "at most one hour");
        }
        self.open_time.check()?;
        Ok(self)
    }
}

/// The defaults of the table above.
impl Default for Policy {
    fn default() -> Self {
        PolicyBuilder::default().unchecked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_passes_its_own_checks() {
        let policy = Policy::default();
        assert_eq!(policy.clone().checked(), Ok(policy));
    }

    #[test]
    fn what_cannot_work_is_refused_and_the_field_is_named() {
        let b = Policy::builder;
        let (half, zero) = (Rate::percent(50), Rate::percent(0));
        let (ms, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
        for (builder, field) in [
            (b().count_window(0), "count_window"),
            (b().count_window(10_001), "count_window"),
            (b().time_window(99 * ms), "time_window"),
            (b().time_window(25 * hour), "time_window"),
            (b().time_window_in(100 * ms, 11), "time_window_buckets"),
            (b().time_window_in(hour, 1), "time_window_buckets"),
            (b().time_window_in(hour, 101), "time_window_buckets"),
            (b().minimum_calls(0), "minimum_calls"),
            (b().minimum_calls(101), "minimum_calls"),
            (b().failure_rate(zero), "failure_rate"),
            (b().failure_rate(Rate::percent(101)), "failure_rate"),
            (b().failure_rate(Rate::of(1, 1_000_001)), "failure_rate"),
            (
                b().no_window().consecutive_failures(1).failure_rate(half),
                "failure_rate",
            ),
            (b().slow_calls(ms, zero), "slow_rate"),
            (b().slow_calls(25 * hour, half), "slow_after"),
            (b().consecutive_failures(0), "consecutive_failures"),
            (b().consecutive_failures(1_000_001), "consecutive_failures"),
            (b().half_open_permits(0), "half_open_permits"),
            (b().half_open_permits(1001), "half_open_permits"),
            (b().half_open_failure_rate(zero), "half_open_failure_rate"),
            (b().half_open_limit(Some(Duration::ZERO)), "half_open_limit"),
            (b().half_open_wait(2 * hour), "half_open_wait"),
            (b().ramp(Duration::ZERO, half), "ramp_over"),
            (b().ramp(2 * hour, half), "ramp_over"),
            (b().ramp(ms, zero), "ramp_first"),
            (b().ramp(ms, Rate::percent(101)), "ramp_first"),
            (b().open_time(OpenTime::fixed(Duration::ZERO)), "open_time"),
            (
                b().open_time(OpenTime::growing(2 * ms, ms)),
                "open_time_cap",
            ),
        ] {
            let error = builder.build().expect_err(field);
            assert_eq!(error.field(), field);
            assert!(!error.range().is_empty());
        }
    }

    #[test]
    fn the_minimum_follows_a_small_window() {
        let policy = Policy::builder().count_window(7).build().unwrap();
        assert_eq!(policy.minimum_calls, 7);
        assert_eq!(Policy::default().minimum_calls, 20);
    }
}
