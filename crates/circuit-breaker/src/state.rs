//! The states in which a breaker can be.

use std::fmt;

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum State {
    /// Lets calls through and counts them.
    Closed,
    /// Rejects calls until its time is over.
    Open,
    /// Lets a few calls through to see whether the target is well again.
    HalfOpen,
    /// Rejects all calls until somebody says otherwise.
    ForcedOpen,
    /// Lets all calls through and counts nothing.
    Disabled,
    /// Lets all calls through, counts them, and never opens.
    MetricsOnly,
    /// Rejects all calls as long as somebody holds an `Isolation`.
    Isolated,
}

impl State {
    /// In one word, as in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a breaker went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The share of failed calls reached its threshold.
    FailureRate,
    /// The share of slow calls reached its threshold.
    SlowRate,
    /// So many calls failed one after another.
    ConsecutiveFailures,
    /// The user's own rule said so.
    Predicate,
    /// It had been open for its time.
    OpenTimeOver,
    /// The probes of the half-open state succeeded.
    ProbesSucceeded,
    /// The probes of the half-open state failed.
    ProbesFailed,
    /// Most probes of the half-open state were dropped without a verdict.
    ProbesAbandoned,
    /// The half-open state lasted too long without a verdict.
    ProbesLate,
    /// Somebody said so.
    ByHand,
    /// Enough other instances of its fleet said so.
    Fleet,
}

impl Cause {
    /// In one word, as in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::Predicate => "predicate",
            Self::OpenTimeOver => "open_time_over",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ProbesFailed => "probes_failed",
            Self::ProbesAbandoned => "probes_abandoned",
            Self::ProbesLate => "probes_late",
            Self::ByHand => "by_hand",
            Self::Fleet => "fleet",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
