//! What a drive tells its observers.

use super::Drive;
use crate::{Entry, Event, EventKind};

impl Drive {
    pub(super) fn tell(&self, kind: EventKind) {
        self.engine.observers.tell(|| Event {
            id: self.record.id,
            name: self.definition.key.name.clone(),
            epoch: self.lease.fence().epoch(),
            kind,
        });
    }

    pub(super) fn tell_done(&self, step: usize, attempt: u32) {
        self.tell(EventKind::StepDone {
            step: self.definition.steps[step].name.to_string(),
            attempt,
        });
    }

    pub(super) fn tell_turn(&self, entries: &[Entry]) {
        for entry in entries {
            if let Entry::TurnedBack { code } = entry {
                self.tell(EventKind::TurnedBack { code: code.clone() });
            }
        }
    }

    pub(super) fn tell_rest(&self) {
        self.tell(EventKind::Rested {
            state: self.progress.state,
            reason: self.reason(),
        });
    }
}
