//! What a journal is made of. Written before it counts, never changed afterwards.

use serde::{Deserialize, Serialize};

use super::FailureKind;
use crate::SagaId;

/// One line of a saga's journal. What is not in the journal has not happened.
///
/// Steps are meant by their place in the definition, from 0; the name beside it is checked when a
/// saga is resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Entry {
    /// A step is about to begin. From here on its effect must be counted with, and its undo is due.
    Started {
        /// Its place.
        step: usize,
        /// Its name.
        name: String,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// A step ended well. Its output, as JSON.
    Succeeded {
        /// Its place.
        step: usize,
        /// What it returned, as JSON.
        output: String,
    },
    /// An attempt at a step failed.
    Failed {
        /// Its place.
        step: usize,
        /// Which attempt.
        attempt: u32,
        /// What is known of its effect.
        kind: FailureKind,
        /// The code that the step gave.
        code: String,
        /// Before when it is not tried again, by the store's clock: microseconds since 1970. Only
        /// where other steps go on meanwhile; otherwise the saga as a whole waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<i64>,
    },
    /// It sleeps, held by nobody, until this time by the store's clock: microseconds since 1970.
    /// Ends with [`Succeeded`](Self::Succeeded).
    Sleeping {
        /// The sleep's place among the steps.
        step: usize,
        /// Its name.
        name: String,
        /// Until when.
        until: i64,
    },
    /// It waits for a signal of this name, held by nobody, until this time by the store's clock:
    /// microseconds since 1970. Ends with [`Succeeded`](Self::Succeeded), or with
    /// [`Failed`](Self::Failed) as attempt 0.
    Waiting {
        /// The wait's place among the steps.
        step: usize,
        /// Its name, and the signal's.
        name: String,
        /// Until when.
        until: i64,
    },
    /// A child saga is started, in the commit that writes this line, and waited for, held by nobody.
    /// Ends with [`Succeeded`](Self::Succeeded) when the child was completed; with
    /// [`Failed`](Self::Failed), [final](FailureKind::Final) when the child is undone, and of
    /// [unknown](FailureKind::Unknown) effect when it has not ended in time.
    Calling {
        /// The child's place among the steps.
        step: usize,
        /// The step's name.
        name: String,
        /// Which child of this step it is, from 1: another is called only if somebody
        /// [sends it on](Self::Resumed) after one that was undone.
        attempt: u32,
        /// The child.
        child: SagaId,
        /// Until when it is waited for, by the store's clock: microseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<i64>,
    },
    /// The worker died, or was stopped, while a step or an undo was under way. Nobody's verdict.
    Interrupted,
    /// It goes no further: what was done is to be undone.
    TurnedBack {
        /// Why: the code of the failure that ended it.
        code: String,
    },
    /// The undo of a step is about to begin.
    UndoStarted {
        /// The step's place.
        step: usize,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// The child saga of a step is to turn back, and is waited for until it is undone. Ends with
    /// [`Undone`](Self::Undone), or with [`UndoFailed`](Self::UndoFailed) when it cannot be.
    CallingBack {
        /// The step's place.
        step: usize,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// A step is undone.
    Undone {
        /// Its place.
        step: usize,
    },
    /// An attempt at an undo failed.
    UndoFailed {
        /// The step's place.
        step: usize,
        /// Which attempt.
        attempt: u32,
        /// What is known of it. Only [`FailureKind::Final`] ends it.
        kind: FailureKind,
        /// The code that the undo gave.
        code: String,
    },
    /// Its parent turned it back, whether it was under way or completed.
    CalledBack {
        /// Why: what turned the parent back.
        code: String,
    },
    /// Every step was done.
    Completed,
    /// Everything that was done is undone.
    AllUndone,
    /// It can go neither on nor back by itself: somebody must look at it.
    Parked {
        /// Why.
        code: String,
    },
    /// Somebody sent it on: what had failed for good is tried again.
    Resumed {
        /// Who, and why.
        by: By,
    },
    /// Somebody declared a step done, with this output, or its undo done.
    Forced {
        /// The step's place.
        step: usize,
        /// What the step is taken to have returned, as JSON; `None` for an undo.
        output: Option<String>,
        /// Who, and why.
        by: By,
    },
    /// Somebody turned it back.
    Cancelled {
        /// Who, and why.
        by: By,
    },
}

/// Who intervened, and why: an audit line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "who and why is all there is")]
pub struct By {
    /// A person, or a program.
    pub who: String,
    /// In their own words.
    pub why: String,
}

impl By {
    /// Somebody, for a reason.
    pub fn new(who: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            who: who.into(),
            why: why.into(),
        }
    }
}
