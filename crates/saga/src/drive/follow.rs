//! What follows from where a saga stands, without another attempt.

use super::{DEADLINE, Drive};
use crate::{
    Entry,
    machine::{Next, Progress},
};

impl Drive {
    /// Everything that follows from where the saga stands, up to the next attempt.
    pub(super) fn follow(&mut self, entries: &mut Vec<Entry>) {
        let mut progress = self.progress.clone();
        self.follow_in(&mut progress, entries);
        self.progress = progress;
    }

    pub(super) fn follow_in(&self, progress: &mut Progress, entries: &mut Vec<Entry>) {
        loop {
            let entry = match progress.next(&self.definition.shape) {
                Next::Run { open: true, .. } | Next::Undo { open: true, .. } | Next::Nothing => {
                    return;
                }
                Next::Run { step, .. } | Next::Sleep { step, .. } if self.is_late(step) => {
                    Entry::TurnedBack {
                        code: DEADLINE.to_owned(),
                    }
                }
                Next::Sleep { .. } => return,
                Next::Run { step, .. } if self.definition.steps[step].pause.is_some() => {
                    self.fall_asleep(step)
                }
                Next::Run { step, .. } => Entry::Started {
                    step,
                    name: self.definition.steps[step].name.to_string(),
                    attempt: progress.steps[step].attempts + 1,
                },
                Next::Undo { step, .. } => Entry::UndoStarted {
                    step,
                    attempt: progress.steps[step].undo_attempts.saturating_add(1),
                },
                Next::TurnBack { step } => Entry::TurnedBack {
                    code: progress.steps[step].code.clone().unwrap_or_default(),
                },
                Next::Park { step } => Entry::Parked {
                    code: progress.steps[step].code.clone().unwrap_or_default(),
                },
                Next::Complete => Entry::Completed,
                Next::AllUndone => Entry::AllUndone,
            };
            if progress.apply(&entry).is_none() {
                // The rules propose only what can follow.
                return;
            }
            entries.push(entry);
        }
    }

    /// Whether the way forward has taken too long for this step to begin.
    pub(super) fn is_late(&self, step: usize) -> bool {
        let age = self.age();
        let limit = self.definition.forward_within;
        step < self.definition.shape.forward_from && limit.is_some_and(|limit| age > limit)
    }

    pub(super) fn next(&self) -> Next {
        match self.progress.next(&self.definition.shape) {
            Next::Run { step, .. } | Next::Sleep { step, .. } if self.is_late(step) => {
                Next::TurnBack { step }
            }
            next => next,
        }
    }
}
