//! What is to be done next with a saga that stands somewhere.

use std::sync::Arc;

use super::{State, fold::Progress};

/// Of each step all those that must be done before it, however many steps earlier.
pub(crate) type Before = Arc<[Vec<usize>]>;

/// What of a definition the rules need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// What must be done before each step.
    pub(crate) before: Before,
    /// From this step on there is only forward: the one behind the pivot.
    pub(crate) forward_from: usize,
    pub(crate) steps: Vec<StepShape>,
}

/// What of a step the rules need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepShape {
    /// How many attempts before it is given up; `u32::MAX` for no limit.
    pub(crate) attempts: u32,
    /// Whether it is undone even if it certainly had no effect.
    pub(crate) undo_always: bool,
    /// It only waits, and leaves nothing to be undone.
    pub(crate) sleeps: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Run this step.
    Run {
        step: usize,
        /// Its attempt is written down as begun already: a worker died, or has just begun it.
        open: bool,
    },
    /// Sleep until this time, by the store's clock in microseconds, or wait for a signal or a child:
    /// that is written down already.
    Sleep { step: usize, until: i64 },
    /// Undo this step.
    Undo { step: usize, open: bool },
    /// Have the child of this step turn back, and wait for it.
    CallBack {
        step: usize,
        /// It is written down already.
        called: bool,
    },
    /// Go no further: this step has failed for good.
    TurnBack { step: usize },
    /// Nothing is left to be done.
    Complete,
    /// Nothing is left to be undone.
    AllUndone,
    /// Only somebody can help: this step, or its undo, was refused.
    Park { step: usize },
    /// It has ended, or waits for somebody.
    Nothing,
}

impl Progress {
    /// All that can be done next, side by side, in the order of the steps. What ends the way, or
    /// turns it, stands alone, and so does an undo.
    pub(crate) fn all(&self, shape: &Shape) -> Vec<Next> {
        match self.state {
            State::Running => self.all_forward(shape),
            State::Undoing => vec![self.next_back(shape)],
            State::Completed | State::Undone | State::NeedsAttention => vec![Next::Nothing],
        }
    }

    fn all_forward(&self, shape: &Shape) -> Vec<Next> {
        if self.steps.iter().all(|it| it.output.is_some()) {
            return vec![Next::Complete];
        }
        let failed = (0..self.steps.len()).find(|step| self.has_failed(*step, shape));
        if let Some(step) = failed {
            // What is under way may end, and nothing new begins.
            let open = self.steps.iter().enumerate().filter(|(_, it)| it.open);
            let open: Vec<_> = open
                .map(|(step, _)| Next::Run { step, open: true })
                .collect();
            return match open.is_empty() {
                false => open,
                true if step >= shape.forward_from => vec![Next::Park { step }],
                true => vec![Next::TurnBack { step }],
            };
        }
        let ready = (0..self.steps.len()).filter(|step| self.is_ready(*step));
        ready
            .map(|step| {
                let it = &self.steps[step];
                match it.asleep {
                    Some(until) => Next::Sleep { step, until },
                    None => Next::Run {
                        step,
                        open: it.open,
                    },
                }
            })
            .collect()
    }

    /// Whether a step stops the way forward.
    fn has_failed(&self, step: usize, shape: &Shape) -> bool {
        let (it, rules) = (&self.steps[step], &shape.steps[step]);
        let used_up = step < shape.forward_from && !it.open && it.attempts >= rules.attempts;
        it.output.is_none() && (it.refused || used_up && it.asleep.is_none() && !rules.sleeps)
    }

    /// Undos go one after the other, the last step's first: a step stands behind all that it comes
    /// after.
    fn next_back(&self, shape: &Shape) -> Next {
        for (step, (it, rules)) in self.steps.iter().zip(&shape.steps).enumerate().rev() {
            let touched = it.output.is_some() || it.doubtful;
            let asked = rules.undo_always && it.attempts > 0;
            if (touched || asked) && !rules.sleeps && !it.undone && !it.undo_refused {
                return match it.child {
                    Some(_) => Next::CallBack {
                        step,
                        called: it.called_back,
                    },
                    None => Next::Undo {
                        step,
                        open: it.undo_open,
                    },
                };
            }
        }
        match self.steps.iter().rposition(|it| it.undo_refused) {
            Some(step) => Next::Park { step },
            None => Next::AllUndone,
        }
    }
}
