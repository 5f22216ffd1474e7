//! A policy as it is written in a configuration: every field may be left out, and what is there
//! passes the same checks.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Abandoned, HalfOpenVerdict, OpenTime, Policy, WindowKind};
use crate::Rate;

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    window: Window,
    minimum_calls: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_rate: Option<Threshold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_calls: Option<SlowCalls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consecutive_failures: Option<u32>,
    half_open: HalfOpen,
    open_time: Open,
    #[serde(skip_serializing_if = "Option::is_none")]
    ramp: Option<WrittenRamp>,
    abandoned: Abandoned,
    shadow: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Window {
    None,
    Calls(u32),
    Time {
        ms: u64,
        #[serde(default = "ten")]
        buckets: u32,
    },
}

/// Left out is the default; `"none"` is none.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum NoThreshold {
    None,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(untagged)]
enum Threshold {
    None(NoThreshold),
    Rate(Rate),
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SlowCalls {
    after_ms: u64,
    rate: Rate,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenRamp {
    over_ms: u64,
    first: Rate,
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct HalfOpen {
    permits: u32,
    verdict: Verdict,
    limit_ms: Option<u64>,
    wait_ms: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    SameRates,
    FailureRate(Rate),
    AllSucceed,
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Open {
    first_ms: u64,
    growth_percent: u32,
    cap_ms: u64,
    jitter_percent: u32,
}

const fn ten() -> u32 {
    10
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&Policy> for Written {
    fn from(policy: &Policy) -> Self {
        let half_open = &policy.half_open;
        let has_window = !matches!(policy.window, WindowKind::None);
        Self {
            window: match policy.window {
                WindowKind::None => Window::None,
                WindowKind::Calls(calls) => Window::Calls(calls),
                WindowKind::Time { duration, buckets } => Window::Time {
                    ms: ms(duration),
                    buckets,
                },
            },
            minimum_calls: Some(policy.minimum_calls),
            failure_rate: match policy.failure_rate {
                Some(rate) => Some(Threshold::Rate(rate)),
                None => has_window.then_some(Threshold::None(NoThreshold::None)),
            },
            slow_calls: policy.slow.map(|(after, rate)| SlowCalls {
                after_ms: ms(after),
                rate,
            }),
            consecutive_failures: policy.consecutive_failures,
            half_open: HalfOpen {
                permits: half_open.permits,
                verdict: match half_open.verdict {
                    HalfOpenVerdict::SameRates => Verdict::SameRates,
                    HalfOpenVerdict::FailureRate(rate) => Verdict::FailureRate(rate),
                    HalfOpenVerdict::AllSucceed => Verdict::AllSucceed,
                },
                limit_ms: half_open.limit.map(ms),
                wait_ms: ms(half_open.wait),
            },
            open_time: Open {
                first_ms: ms(policy.open_time.first),
                growth_percent: policy.open_time.growth_percent,
                cap_ms: ms(policy.open_time.cap),
                jitter_percent: policy.open_time.jitter_percent,
            },
            ramp: policy.ramp.map(|ramp| WrittenRamp {
                over_ms: ms(ramp.over),
                first: ramp.first,
            }),
            abandoned: policy.abandoned,
            shadow: policy.shadow,
        }
    }
}

impl Default for Written {
    fn default() -> Self {
        let mut written = Self::from(&Policy::default());
        // What depends on the window is chosen when that is known.
        (written.minimum_calls, written.failure_rate) = (None, None);
        written
    }
}

impl Default for HalfOpen {
    fn default() -> Self {
        Written::default().half_open
    }
}

impl Default for Open {
    fn default() -> Self {
        Written::default().open_time
    }
}

impl Written {
    fn build(self) -> Result<Policy, crate::PolicyError> {
        let of_ms = Duration::from_millis;
        let mut builder = match self.window {
            Window::None => Policy::builder().no_window(),
            Window::Calls(calls) => Policy::builder().count_window(calls),
            Window::Time { ms, buckets } => Policy::builder().time_window_in(of_ms(ms), buckets),
        };
        if let Some(calls) = self.minimum_calls {
            builder = builder.minimum_calls(calls);
        }
        builder = match self.failure_rate {
            None => builder,
            Some(Threshold::None(_)) => builder.no_failure_rate(),
            Some(Threshold::Rate(rate)) => builder.failure_rate(rate),
        };
        if let Some(slow) = self.slow_calls {
            builder = builder.slow_calls(of_ms(slow.after_ms), slow.rate);
        }
        if let Some(failures) = self.consecutive_failures {
            builder = builder.consecutive_failures(failures);
        }
        builder = match self.half_open.verdict {
            Verdict::SameRates => builder,
            Verdict::FailureRate(rate) => builder.half_open_failure_rate(rate),
            Verdict::AllSucceed => builder.half_open_all_succeed(),
        };
        if let Some(ramp) = self.ramp {
            builder = builder.ramp(of_ms(ramp.over_ms), ramp.first);
        }
        let open = self.open_time;
        builder
            .half_open_permits(self.half_open.permits)
            .half_open_limit(self.half_open.limit_ms.map(of_ms))
            .half_open_wait(of_ms(self.half_open.wait_ms))
            .open_time(
                OpenTime::growing(of_ms(open.first_ms), of_ms(open.cap_ms))
                    .with_growth_percent(open.growth_percent)
                    .with_jitter_percent(open.jitter_percent),
            )
            .abandoned(self.abandoned)
            .shadow(self.shadow)
            .build()
    }
}

/// In milliseconds, and rates as text: `{"window": {"calls": 50}, "failure_rate": "25%"}`.
impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Written::from(self).serialize(to)
    }
}

/// What is left out is the default; what cannot work is refused as it is when built.
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(from)?;
        written.build().map_err(serde::de::Error::custom)
    }
}
