//! The rules: a journal folded into where a saga stands, and what is to be done next.

mod entry;
mod fold;
mod next;

use serde::{Deserialize, Serialize};

pub use self::{
    entry::{By, Entry},
    fold::IllegalEntry,
};
pub(crate) use self::{
    fold::Progress,
    next::{Before, Next, Shape, StepShape},
};

/// What is known of the effect of an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// It certainly had none, and may succeed later: the target is down, or busy.
    NotDone,
    /// It may have had its effect: the time ran out, or the connection went.
    Unknown,
    /// It was refused for good and had none. A step's ends the way forward, an undo's needs
    /// somebody's attention.
    Final,
    /// It was not tried at all: something in front of the target, a breaker or a limiter, kept it
    /// back. It counts as no attempt.
    Postponed,
}

/// Where a saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Its steps are being done.
    Running,
    /// What was done is being undone.
    Undoing,
    /// Every step was done. It has ended.
    Completed,
    /// Everything that was done is undone. It has ended.
    Undone,
    /// It can go neither on nor back by itself.
    NeedsAttention,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Undoing,
        Self::Completed,
        Self::Undone,
        Self::NeedsAttention,
    ];

    /// As it is stored. Runners look for what is less than 2.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Running => 0,
            Self::Undoing => 1,
            Self::Completed => 2,
            Self::Undone => 3,
            Self::NeedsAttention => 4,
        }
    }

    /// The one that was stored.
    #[must_use]
    pub fn of_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// In one word, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Completed => "completed",
            Self::Undone => "undone",
            Self::NeedsAttention => "needs_attention",
        }
    }

    /// Whether nothing more happens to it.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Undone)
    }

    /// Whether runners look for it.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Undoing)
    }
}

/// Where one step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StepState {
    /// It has not begun.
    Pending,
    /// It is under way, or waits for its next attempt.
    Running,
    /// It is a sleep that has not ended.
    Sleeping,
    /// It waits for a signal.
    Waiting,
    /// It is a child saga that has not ended, or not been seen to.
    Calling,
    /// It was done.
    Done,
    /// It was refused, and had no effect; or it was a wait, and nothing came.
    Failed,
    /// It may have been done.
    Unknown,
    /// Its undo is under way, or waits for its next attempt.
    Undoing,
    /// It is undone.
    Undone,
    /// Its undo was refused for good.
    UndoFailed,
}

impl StepState {
    /// In one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Waiting => "waiting",
            Self::Calling => "calling",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo_failed",
        }
    }
}
