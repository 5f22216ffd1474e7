//! What happened, for those who listen.

use buttress_core::Observer;

use crate::{FailureKind, SagaId, State};

/// Something that happened to a saga. Told to observers after it was written down.
///
/// It names the saga, its definition and its steps, and codes; no input, no output, no key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Which saga.
    pub id: SagaId,
    /// The name of its definition.
    pub name: String,
    /// In which claim it happened. It grows with each.
    pub epoch: i64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A runner claimed it.
    #[non_exhaustive]
    Claimed {
        /// Its last holder let the lease run out.
        lapsed: bool,
    },
    /// A step was done.
    #[non_exhaustive]
    StepDone {
        /// Its name.
        step: String,
        /// At which attempt.
        attempt: u32,
    },
    /// An attempt at a step failed.
    #[non_exhaustive]
    StepFailed {
        /// The step's name.
        step: String,
        /// Which attempt.
        attempt: u32,
        /// What is known of its effect.
        kind: FailureKind,
        /// The step's code.
        code: String,
    },
    /// It goes no further, and what was done is being undone.
    #[non_exhaustive]
    TurnedBack {
        /// Why.
        code: String,
    },
    /// A step was undone.
    #[non_exhaustive]
    StepUndone {
        /// Its name.
        step: String,
    },
    /// An attempt at an undo failed.
    #[non_exhaustive]
    UndoFailed {
        /// The step's name.
        step: String,
        /// Which attempt.
        attempt: u32,
        /// What is known of it.
        kind: FailureKind,
        /// The undo's code.
        code: String,
    },
    /// A step that is a saga itself began: its child is started.
    #[non_exhaustive]
    ChildStarted {
        /// The step's name.
        step: String,
        /// The child.
        child: SagaId,
    },
    /// The child of a step was turned back, and is being undone.
    #[non_exhaustive]
    ChildCalledBack {
        /// The step's name.
        step: String,
        /// The child.
        child: SagaId,
    },
    /// It ended, or needs attention.
    #[non_exhaustive]
    Rested {
        /// In which state.
        state: State,
        /// Why, unless it was completed.
        reason: Option<String>,
    },
    /// The runner lost it: its lease ran out, or somebody intervened.
    Lost,
    /// The journal is none that its definition can have written. It is parked.
    Illegal,
}

/// Logs what happens through `tracing`: what needs somebody's attention as an error, what failed as
/// a warning, the rest for debugging.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TraceEvents {}

impl TraceEvents {
    /// One; there is nothing to choose.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }
}

impl Observer<Event> for TraceEvents {
    fn on_event(&self, event: &Event) {
        let (id, name) = (event.id, event.name.as_str());
        match &event.kind {
            EventKind::Rested {
                state: State::NeedsAttention,
                reason,
            } => {
                tracing::error!(saga.id = %id, saga.name = name, ?reason, "a saga needs attention");
            }
            EventKind::Illegal => {
                tracing::error!(saga.id = %id, saga.name = name, "a saga's journal is illegal");
            }
            EventKind::StepFailed {
                kind: FailureKind::Postponed,
                ..
            }
            | EventKind::UndoFailed {
                kind: FailureKind::Postponed,
                ..
            } => {
                tracing::debug!(saga.id = %id, saga.name = name, other = ?event.kind, "saga");
            }
            EventKind::StepFailed {
                step, kind, code, ..
            } => {
                tracing::warn!(saga.id = %id, saga.name = name, step, ?kind, code, "a step failed");
            }
            EventKind::UndoFailed {
                step, kind, code, ..
            } => {
                tracing::warn!(saga.id = %id, saga.name = name, step, ?kind, code, "an undo failed");
            }
            EventKind::TurnedBack { code } => {
                tracing::warn!(saga.id = %id, saga.name = name, code, "a saga was turned back");
            }
            EventKind::ChildStarted { step, child } => {
                tracing::debug!(saga.id = %id, saga.name = name, step, %child, "a child saga was started");
            }
            EventKind::ChildCalledBack { step, child } => {
                tracing::warn!(saga.id = %id, saga.name = name, step, %child, "a child saga was called back");
            }
            EventKind::Lost => {
                tracing::warn!(saga.id = %id, saga.name = name, "a saga was lost to another worker");
            }
            other => tracing::debug!(saga.id = %id, saga.name = name, ?other, "saga"),
        }
    }
}
