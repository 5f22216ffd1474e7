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

    pub(super) fn tell_turn(&self, entries: &[Entry]) {
        for entry in entries {
            if let Entry::TurnedBack { code } = entry {
                self.tell(EventKind::TurnedBack { code: code.clone() });
            }
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
