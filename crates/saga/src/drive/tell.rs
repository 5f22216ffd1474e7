//! What a drive tells its observers.

use super::Drive;
use crate::{Entry, Event, EventKind, State, StepError};

impl Drive {
    pub(super) fn tell(&self, kind: EventKind) {
        self.engine.observers.tell(|| Event {
            id: self.record.id,
            name: self.definition.key.name.clone(),
            epoch: self.lease.fence().epoch(),
            kind,
        });
    }

    pub(super) fn tell_ended(&self, step: usize, attempt: u32, undo: bool) {
        let step = self.definition.steps[step].name.to_string();
        self.tell(match undo {
            true => EventKind::StepUndone { step },
            false => EventKind::StepDone { step, attempt },
        });
    }

    pub(super) fn tell_failed(&self, step: usize, attempt: u32, undo: bool, error: &StepError) {
        let step = self.definition.steps[step].name.to_string();
        let (kind, code) = (error.kind(), error.code().to_owned());
        self.tell(if undo {
            EventKind::UndoFailed {
                step,
                attempt,
                kind,
                code,
            }
        } else {
            EventKind::StepFailed {
                step,
                attempt,
                kind,
                code,
            }
        });
    }

    /// What was written down and is told of nowhere else.
    pub(super) fn tell_written(&self, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::TurnedBack { code } => {
                    self.tell(EventKind::TurnedBack { code: code.clone() });
                }
                Entry::Calling { name, child, .. } => self.tell(EventKind::ChildStarted {
                    step: name.clone(),
                    child: *child,
                }),
                Entry::Succeeded { step, .. } => {
                    self.tell_child(*step, |step, attempt| EventKind::StepDone { step, attempt });
                }
                Entry::Undone { step } => {
                    self.tell_child(*step, |step, _| EventKind::StepUndone { step });
                }
                Entry::Failed {
                    step, kind, code, ..
                } => self.tell_child(*step, |step, attempt| EventKind::StepFailed {
                    step,
                    attempt,
                    kind: *kind,
                    code: code.clone(),
                }),
                Entry::UndoFailed {
                    step, kind, code, ..
                } => self.tell_child(*step, |step, attempt| EventKind::UndoFailed {
                    step,
                    attempt,
                    kind: *kind,
                    code: code.clone(),
                }),
                _ => {}
            }
        }
    }

    /// Of a step that is a child. Others have ended before their line was written.
    fn tell_child(&self, step: usize, kind: impl FnOnce(String, u32) -> EventKind) {
        let defined = &self.definition.steps[step];
        if defined.child().is_some() {
            let attempt = self.progress.steps[step].attempts.max(1);
            self.tell(kind(defined.name.to_string(), attempt));
        }
    }

    pub(super) fn tell_parked(&self, code: &str) {
        self.tell(EventKind::Rested {
            state: State::NeedsAttention,
            reason: Some(code.to_owned()),
        });
    }

    pub(super) fn tell_rest(&self) {
        self.tell(EventKind::Rested {
            state: self.progress.state,
            reason: self.reason(),
        });
    }
}
