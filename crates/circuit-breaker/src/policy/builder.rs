//! Choosing a policy, field by field.

use std::time::Duration;

use super::{Abandoned, HalfOpen, HalfOpenVerdict, OpenTime, Policy, WindowKind};
use crate::{PolicyError, Rate, machine::Ramp};

const MINIMUM_CALLS: u32 = 20;

/// Builds a [`Policy`]. The fields, their defaults and their ranges are in its table.
#[derive(Clone, Debug)]
#[must_use]
pub struct PolicyBuilder {
    policy: Policy,
    /// The user's, or the default that fits the window.
    minimum_calls: Option<u32>,
    /// The user's, or half where there is a window.
    failure_rate: Option<Option<Rate>>,
}

impl Default for PolicyBuilder {
    fn default() -> Self {
        Self {
            policy: Policy {
                window: WindowKind::Calls(100),
                minimum_calls: MINIMUM_CALLS,
                failure_rate: None,
                slow: None,
                consecutive_failures: None,
                half_open: HalfOpen {
                    permits: 5,
                    verdict: HalfOpenVerdict::SameRates,
                    limit: Some(Duration::from_secs(60)),
                    wait: Duration::ZERO,
                },
                open_time: OpenTime::default(),
                ramp: None,
                abandoned: Abandoned::default(),
                shadow: false,
            },
            minimum_calls: None,
            failure_rate: None,
        }
    }
}

impl PolicyBuilder {
    /// Counts the last `calls` calls.
    pub const fn count_window(mut self, calls: u32) -> Self {
        self.policy.window = WindowKind::Calls(calls);
        self
    }

    /// Counts the calls of the last `duration`, in ten buckets: a result is forgotten between nine
    /// and ten tenths of it later. Every call then reads the clock.
    pub const fn time_window(self, duration: Duration) -> Self {
        self.time_window_in(duration, 10)
    }

    /// The same in another number of buckets.
    pub const fn time_window_in(mut self, duration: Duration, buckets: u32) -> Self {
        self.policy.window = WindowKind::Time { duration, buckets };
        self
    }

    /// Keeps no window: only consecutive failures are counted.
    pub const fn no_window(mut self) -> Self {
        self.policy.window = WindowKind::None;
        self
    }

    /// Rates are not looked at before so many calls are in the window.
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = Some(calls);
        self
    }

    /// Opens when this share of the calls failed, or more.
    pub const fn failure_rate(mut self, rate: Rate) -> Self {
        self.failure_rate = Some(Some(rate));
        self
    }

    /// Does not look at the failure rate.
    pub const fn no_failure_rate(mut self) -> Self {
        self.failure_rate = Some(None);
        self
    }

    /// A call is slow when it takes longer than `after`; opens when this share of the calls is
    /// slow, or more. Every call then reads the clock twice.
    pub const fn slow_calls(mut self, after: Duration, rate: Rate) -> Self {
        self.policy.slow = Some((after, rate));
        self
    }

    /// Opens after so many failures in a row, whatever the rates and the minimum say.
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.policy.consecutive_failures = Some(failures);
        self
    }

    /// Half-open, lets so many probes through, and never more at once.
    pub const fn half_open_permits(mut self, permits: u32) -> Self {
        self.policy.half_open.permits = permits;
        self
    }

    /// Half-open, opens again when this share of the probes failed, or more; else closes. Said as
    /// soon as the rest cannot change it. Without it, the failure rate is that of the closed state.
    pub const fn half_open_failure_rate(mut self, rate: Rate) -> Self {
        self.policy.half_open.verdict = HalfOpenVerdict::FailureRate(rate);
        self
    }

    /// Half-open, closes when all probes succeeded, and opens with the first that did not.
    pub const fn half_open_all_succeed(mut self) -> Self {
        self.policy.half_open.verdict = HalfOpenVerdict::AllSucceed;
        self
    }

    /// Half-open without a verdict for so long, opens again. `None`: probes may take for ever, and
    /// if they hang, so does the breaker.
    pub const fn half_open_limit(mut self, limit: Option<Duration>) -> Self {
        self.policy.half_open.limit = limit;
        self
    }

    /// Half-open, a call beyond the probes waits up to `wait` for a place or the verdict, where it
    /// can: [`CircuitBreaker::call`](crate::CircuitBreaker::call),
    /// [`CircuitBreaker::acquire`](crate::CircuitBreaker::acquire) and a layer that was told to
    /// wait do so on tokio's timer, a blocking call on its thread; `try_acquire` and any other
    /// layer reject at once.
    pub const fn half_open_wait(mut self, wait: Duration) -> Self {
        self.policy.half_open.wait = wait;
        self
    }

    /// After its probes have closed it, lets calls through by chance, `first` of them at once and
    /// evenly more until `over` is gone: a target that has just come back is not met by all calls
    /// at the same moment. Those that are not let through are rejected; a breaker that is closed by
    /// hand lets all through. Until then each call reads the clock.
    pub const fn ramp(mut self, over: Duration, first: Rate) -> Self {
        self.policy.ramp = Some(Ramp { over, first });
        self
    }

    /// For how long it opens.
    pub const fn open_time(mut self, open_time: OpenTime) -> Self {
        self.policy.open_time = open_time;
        self
    }

    /// What calls that are dropped without a verdict count as.
    pub const fn abandoned(mut self, abandoned: Abandoned) -> Self {
        self.policy.abandoned = abandoned;
        self
    }

    /// Goes through all states and tells its observers what it would reject, and rejects nothing.
    /// The calls that it lets through for that are not counted.
    pub const fn shadow(mut self, shadow: bool) -> Self {
        self.policy.shadow = shadow;
        self
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// What cannot work: the field, and its range.
    pub fn build(self) -> Result<Policy, PolicyError> {
        self.unchecked().checked()
    }

    pub(super) fn unchecked(self) -> Policy {
        let mut policy = self.policy;
        let by_window = match policy.window {
            WindowKind::Calls(calls) => calls.clamp(1, MINIMUM_CALLS),
            _ => MINIMUM_CALLS,
        };
        policy.minimum_calls = self.minimum_calls.unwrap_or(by_window);
        let has_window = !matches!(policy.window, WindowKind::None);
        policy.failure_rate = self
            .failure_rate
            .unwrap_or_else(|| has_window.then(|| Rate::percent(50)));
        policy
    }
}
