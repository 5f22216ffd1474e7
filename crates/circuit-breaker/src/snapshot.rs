//! The state of a breaker, to be kept over a restart.

use std::time::Duration;

use buttress_core::Moment;

use crate::{Counts, State, breaker::Core, machine::Told};

/// What a breaker was at one moment: to be shown, or kept over a restart. Made by
/// [`CircuitBreaker::snapshot`](crate::CircuitBreaker::snapshot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// For how long it was still open. Whoever knows how long a restart took may subtract that.
    pub retry_after: Option<Duration>,
    /// How often it had opened since it was last closed.
    pub openings: u32,
    /// What was counted. Shown only: a restored breaker begins with an empty window.
    pub counts: Counts,
}

impl Snapshot {
    pub(crate) fn of(core: &Core) -> Self {
        let now = core.now();
        let (state, until, openings) = core.cell.beneath();
        Self {
            state,
            retry_after: (state == State::Open).then(|| until.saturating_since(now)),
            openings,
            counts: core.cell.counts(now),
        }
    }

    pub(crate) fn told(&self, now: Moment) -> (Told, u32) {
        let told = match self.state {
            State::Open => Told::Open {
                until: now.saturating_add(self.retry_after.unwrap_or_default()),
            },
            // The probes of another life are gone: the next call begins a round.
            State::HalfOpen => Told::Open { until: now },
            State::ForcedOpen => Told::ForcedOpen,
            State::Disabled => Told::Disabled,
            State::MetricsOnly => Told::MetricsOnly,
            State::Closed | State::Isolated => Told::Closed,
        };
        (told, self.openings)
    }
}
