//! How long a drive waits before an attempt.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use buttress_retry_backoff::Backoff;

use super::Drive;
use crate::{FailureKind, State, StepError, definition::Defined};

/// Whoever asks to be left alone is not asked again at once.
const LEAST: Duration = Duration::from_millis(1);

impl Drive {
    /// How long to wait before the attempt that is about to begin, because it would be in vain now.
    pub(super) fn pause_before(&self, step: usize) -> Option<Duration> {
        let Defined { step, policy, .. } = &self.definition.steps[step];
        // It is the user's code: what panics is not paused.
        let asked = catch_unwind(AssertUnwindSafe(|| step.paused_for())).ok()??;
        let backoff = match self.progress.state {
            State::Undoing => &policy.undo_backoff,
            _ => &policy.backoff,
        };
        Some(postponed(backoff, asked))
    }
}

/// Nothing has failed: it waits as long as it was told, and a little longer to come alone.
fn postponed(backoff: &Backoff, asked: Duration) -> Duration {
    let asked = asked.max(LEAST);
    asked.saturating_add(backoff.delays().next().unwrap_or_default())
}

/// How long to wait before the next attempt: what the backoff says, and no less than was asked for.
pub(super) fn wait(backoff: &Backoff, attempt: u32, error: &StepError) -> Duration {
    let asked = error.retry_after().unwrap_or_default();
    if error.kind() == FailureKind::Postponed {
        return postponed(backoff, asked);
    }
    // Backoffs reach their cap long before.
    let place = attempt.saturating_sub(1).min(64) as usize;
    backoff.delays().nth(place).unwrap_or_default().max(asked)
}
