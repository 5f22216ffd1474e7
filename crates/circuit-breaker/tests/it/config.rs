//! A policy as plain numbers, for the model and for what makes policies at random.

use std::time::Duration;

use buttress_circuit_breaker::{Abandoned, OpenTime, Policy, PolicyError, Rate};

/// A policy, readable.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) window: Option<Over>,
    pub(crate) minimum: u32,
    pub(crate) failure: Option<(u32, u32)>,
    pub(crate) slow: Option<(u64, (u32, u32))>,
    pub(crate) consecutive: Option<u32>,
    pub(crate) permits: u32,
    pub(crate) all_succeed: bool,
    pub(crate) limit_ms: Option<u64>,
    pub(crate) first_ms: u64,
    pub(crate) cap_ms: u64,
    pub(crate) abandoned: Abandoned,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    Calls(u32),
    Millis(u64, u32),
}

impl Config {
    pub(crate) fn policy(&self) -> Result<Policy, PolicyError> {
        let ms = Duration::from_millis;
        let mut builder = match self.window {
            None => Policy::builder().no_window(),
            Some(Over::Calls(calls)) => Policy::builder().count_window(calls),
            Some(Over::Millis(all, buckets)) => Policy::builder().time_window_in(ms(all), buckets),
        };
        builder = builder
            .minimum_calls(self.minimum)
            .half_open_permits(self.permits)
            .half_open_limit(self.limit_ms.map(ms))
            .open_time(OpenTime::growing(ms(self.first_ms), ms(self.cap_ms)).with_jitter_percent(0))
            .abandoned(self.abandoned);
        builder = match self.failure {
            Some((part, whole)) => builder.failure_rate(Rate::of(part, whole)),
            None => builder.no_failure_rate(),
        };
        if let Some((after, (part, whole))) = self.slow {
            builder = builder.slow_calls(ms(after), Rate::of(part, whole));
        }
        if let Some(failures) = self.consecutive {
            builder = builder.consecutive_failures(failures);
        }
        if self.all_succeed {
            builder = builder.half_open_all_succeed();
        }
        builder.build()
    }
}
