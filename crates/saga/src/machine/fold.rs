//! A journal folded into where its saga stands.

use super::{Before, Entry, FailureKind, State, StepState};
use crate::SagaId;

/// Where one step stands, and what is known of its effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepProgress {
    /// How many attempts have begun.
    pub(crate) attempts: u32,
    pub(crate) undo_attempts: u32,
    /// As JSON, once it was done.
    pub(crate) output: Option<String>,
    /// An attempt is open: it began and no end of it is known.
    pub(crate) open: bool,
    /// Some attempt may have had an effect that nobody has confirmed.
    pub(crate) doubtful: bool,
    /// It was refused for good.
    pub(crate) refused: bool,
    /// How its last failure was called.
    pub(crate) code: Option<String>,
    /// It is a sleep or a wait, or waits for its child, and this is when that ends, by the store's
    /// clock in microseconds.
    pub(crate) asleep: Option<i64>,
    /// It waits for a signal.
    pub(crate) waits: bool,
    /// The child that was called last.
    pub(crate) child: Option<SagaId>,
    /// The child is to turn back, and has not been seen to have done so.
    pub(crate) called_back: bool,
    /// Its next attempt waits until then, by the store's clock.
    pub(crate) rests: Option<i64>,
    pub(crate) undo_open: bool,
    pub(crate) undone: bool,
    pub(crate) undo_refused: bool,
}

impl StepProgress {
    pub(crate) fn state(&self) -> StepState {
        if self.undone && self.refused && !self.doubtful {
            // Its undo was asked for all the same; that it had no effect is still what happened.
            StepState::Failed
        } else if self.undone {
            StepState::Undone
        } else if self.undo_refused {
            StepState::UndoFailed
        } else if self.undo_attempts > 0 {
            StepState::Undoing
        } else if self.output.is_some() {
            StepState::Done
        } else if self.asleep.is_some() && self.waits {
            StepState::Waiting
        } else if self.asleep.is_some() && self.child.is_some() {
            StepState::Calling
        } else if self.asleep.is_some() {
            StepState::Sleeping
        } else if self.attempts == 0 && !self.doubtful && !(self.waits && self.refused) {
            StepState::Pending
        } else if self.refused && !self.doubtful {
            StepState::Failed
        } else {
            StepState::Running
        }
    }
}

/// Where a saga stands, by its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) state: State,
    pub(crate) steps: Vec<StepProgress>,
    /// Why it was turned back.
    pub(crate) reason: Option<String>,
    /// Why it was parked, while it is.
    pub(crate) parked: Option<String>,
    /// The way is back, also while it is parked.
    back: bool,
    before: Before,
}

/// The reason of what somebody turned back.
pub(crate) const CANCELLED: &str = "CANCELLED";

/// A child is waited for without a limit.
const FOREVER: i64 = i64::MAX;

/// A journal that its definition could not have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the journal cannot follow what stands before it")]
#[expect(clippy::exhaustive_structs, reason = "a place is all there is to say")]
pub struct IllegalEntry {
    /// Which line, from 0.
    pub line: usize,
}

impl Progress {
    /// A saga that has not begun, whose steps come one before the other like this.
    pub(crate) fn new(before: &Before) -> Self {
        Self {
            state: State::Running,
            steps: vec![StepProgress::default(); before.len()],
            reason: None,
            parked: None,
            back: false,
            before: Before::clone(before),
        }
    }

    /// Whether a step that is not done may be: all that it comes after is.
    pub(crate) fn is_ready(&self, step: usize) -> bool {
        let is_done = |step: &usize| self.steps[*step].output.is_some();
        !is_done(&step) && self.before[step].iter().all(is_done)
    }

    /// Where a saga of these steps stands after these lines.
    pub(crate) fn fold<'e>(
        names: &[&str],
        before: &Before,
        entries: impl IntoIterator<Item = &'e Entry>,
    ) -> Result<Self, IllegalEntry> {
        let mut progress = Self::new(before);
        for (line, entry) in entries.into_iter().enumerate() {
            if let Entry::Started { step, name, .. }
            | Entry::Sleeping { step, name, .. }
            | Entry::Calling { step, name, .. }
            | Entry::Waiting { step, name, .. } = entry
                && names.get(*step) != Some(&name.as_str())
            {
                return Err(IllegalEntry { line });
            }
            progress.apply(entry).ok_or(IllegalEntry { line })?;
        }
        Ok(progress)
    }

    /// Takes one more line; `None` when it cannot follow, and then nothing has changed.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<()> {
        let forward = self.state == State::Running;
        let undoing = self.state == State::Undoing;
        match entry {
            Entry::Started { step, attempt, .. } if forward => {
                // What it comes after is done, and what comes after it has not begun.
                let ready = *step < self.steps.len() && self.is_ready(*step);
                let it = self.steps.get_mut(*step)?;
                if !ready
                    || it.open
                    || it.asleep.is_some()
                    || it.refused
                    || *attempt != it.attempts + 1
                {
                    return None;
                }
                it.attempts = *attempt;
                it.open = true;
                it.rests = None;
            }
            Entry::Sleeping { step, until, .. } | Entry::Waiting { step, until, .. } if forward => {
                let ready = *step < self.steps.len() && self.is_ready(*step);
                let it = self.steps.get_mut(*step)?;
                if !ready || it.open || it.asleep.is_some() || it.refused {
                    return None;
                }
                it.asleep = Some(*until);
                it.waits = matches!(entry, Entry::Waiting { .. });
            }
            Entry::Calling {
                step,
                attempt,
                child,
                until,
                ..
            } if forward => {
                let ready = *step < self.steps.len() && self.is_ready(*step);
                let it = self.steps.get_mut(*step)?;
                let next = it.attempts + 1 == *attempt;
                if !ready || it.open || it.asleep.is_some() || it.refused || !next {
                    return None;
                }
                it.attempts = *attempt;
                it.asleep = Some(until.unwrap_or(FOREVER));
                it.child = Some(*child);
            }
            Entry::Failed {
                step,
                attempt,
                kind,
                code,
                ..
            } if forward && self.waits_for_child(*step) => {
                let it = self.steps.get_mut(*step)?;
                if it.attempts != *attempt {
                    return None;
                }
                it.asleep = None;
                it.code = Some(code.clone());
                it.refused = true;
                // It was not undone, but waited for in vain: it is still the same child.
                it.doubtful = *kind != FailureKind::Final;
                it.attempts -= u32::from(it.doubtful);
            }
            Entry::Failed {
                step,
                attempt: 0,
                kind: FailureKind::Final,
                code,
                ..
            } if forward => {
                // Nothing came to a wait.
                let it = self.steps.get_mut(*step)?;
                if !it.waits || it.asleep.take().is_none() {
                    return None;
                }
                it.code = Some(code.clone());
                it.refused = true;
            }
            Entry::Succeeded { step, output } if forward => {
                let it = self.steps.get_mut(*step)?;
                if !it.open && it.asleep.is_none() {
                    return None;
                }
                it.open = false;
                it.asleep = None;
                it.doubtful = false;
                it.output = Some(output.clone());
            }
            Entry::Failed {
                step,
                attempt,
                kind,
                code,
                until,
            } if forward => {
                let it = self.steps.get_mut(*step)?;
                if !it.open || it.attempts != *attempt {
                    return None;
                }
                it.open = false;
                it.attempts -= u32::from(*kind == FailureKind::Postponed);
                it.code = Some(code.clone());
                it.doubtful |= *kind == FailureKind::Unknown;
                it.refused |= *kind == FailureKind::Final;
                it.rests = *until;
            }
            Entry::Interrupted if forward || undoing => self.interrupt(),
            Entry::TurnedBack { code } if forward => {
                if self.steps.iter().any(|it| it.open) {
                    return None;
                }
                self.turn_back(code);
            }
            Entry::Cancelled { .. } if forward || self.state == State::NeedsAttention => {
                self.interrupt();
                self.turn_back(CANCELLED);
            }
            Entry::CalledBack { code }
                if forward
                    || self.state == State::Completed
                    || self.state == State::NeedsAttention && !self.back =>
            {
                self.interrupt();
                self.turn_back(code);
            }
            Entry::CallingBack { step, attempt } if undoing => {
                let it = self.steps.get_mut(*step)?;
                let next = it.undo_attempts + 1 == *attempt;
                if it.child.is_none() || it.called_back || it.undone || !next {
                    return None;
                }
                it.undo_attempts = *attempt;
                it.called_back = true;
            }
            Entry::UndoStarted { step, attempt } if undoing => {
                let it = self.steps.get_mut(*step)?;
                if it.undo_open || it.undone || *attempt != it.undo_attempts + 1 {
                    return None;
                }
                it.undo_attempts = *attempt;
                it.undo_open = true;
            }
            Entry::Undone { step } if undoing => {
                let it = self.steps.get_mut(*step)?;
                if !it.undo_open && !it.called_back {
                    return None;
                }
                it.undo_open = false;
                it.called_back = false;
                it.undone = true;
            }
            Entry::UndoFailed {
                step,
                attempt,
                kind,
                code,
            } if undoing => {
                let it = self.steps.get_mut(*step)?;
                let under_way = it.undo_open || it.called_back;
                if !under_way || it.undo_attempts != *attempt {
                    return None;
                }
                it.undo_open = false;
                it.called_back = false;
                it.undo_attempts -= u32::from(*kind == FailureKind::Postponed);
                it.code = Some(code.clone());
                it.undo_refused |= *kind == FailureKind::Final;
            }
            Entry::Completed if forward => {
                if self.steps.iter().any(|it| it.output.is_none()) {
                    return None;
                }
                self.state = State::Completed;
            }
            Entry::AllUndone if undoing => self.state = State::Undone,
            Entry::Parked { code } if forward || undoing => {
                self.interrupt();
                self.state = State::NeedsAttention;
                self.parked = Some(code.clone());
            }
            Entry::Resumed { .. } if self.state == State::NeedsAttention => self.resume(),
            Entry::Forced { step, output, .. } if self.state == State::NeedsAttention => {
                let turned = self.back;
                let it = self.steps.get_mut(*step)?;
                match output {
                    Some(output) if !turned && it.output.is_none() => {
                        it.output = Some(output.clone());
                        it.attempts = it.attempts.max(1);
                        it.open = false;
                        it.asleep = None;
                        it.doubtful = false;
                        it.refused = false;
                    }
                    None if turned && !it.undone => {
                        it.undone = true;
                        it.undo_refused = false;
                        it.undo_open = false;
                        it.called_back = false;
                    }
                    _ => return None,
                }
                self.resume();
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether an attempt began whose end nobody has written down.
    pub(crate) fn is_open(&self) -> bool {
        self.steps.iter().any(|it| it.open || it.undo_open)
    }

    /// Whether it waits for the child of this step.
    fn waits_for_child(&self, step: usize) -> bool {
        let it = self.steps.get(step);
        it.is_some_and(|it| it.child.is_some() && it.asleep.is_some())
    }

    fn turn_back(&mut self, code: &str) {
        self.state = State::Undoing;
        self.back = true;
        for it in &mut self.steps {
            // Its child is under way, or has ended unseen.
            it.doubtful |= it.child.is_some() && it.asleep.is_some();
            it.asleep = None;
            it.rests = None;
        }
        self.parked = None;
        // The first reason is the one that its user asks for.
        self.reason.get_or_insert_with(|| code.to_owned());
    }

    /// What was open has no known end.
    fn interrupt(&mut self) {
        for it in &mut self.steps {
            it.doubtful |= it.open;
            // A crash is nobody's verdict: the same attempt is made again.
            it.attempts -= u32::from(it.open);
            it.undo_attempts -= u32::from(it.undo_open);
            it.open = false;
            it.undo_open = false;
        }
    }

    /// What had failed for good is tried again.
    fn resume(&mut self) {
        self.parked = None;
        self.state = if self.back {
            State::Undoing
        } else {
            State::Running
        };
        for it in &mut self.steps {
            it.refused = false;
            it.undo_refused = false;
            it.rests = None;
        }
    }
}
