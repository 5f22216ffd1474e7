//! What is to be done next with a saga that stands somewhere.

use super::{State, fold::Progress};

/// What of a definition the rules need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
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
    /// Sleep until this time, by the store's clock in microseconds: that is written down already.
    Sleep { step: usize, until: i64 },
    /// Undo this step.
    Undo { step: usize, open: bool },
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
    pub(crate) fn next(&self, shape: &Shape) -> Next {
        match self.state {
            State::Running => self.next_forward(shape),
            State::Undoing => self.next_back(shape),
            State::Completed | State::Undone | State::NeedsAttention => Next::Nothing,
        }
    }

    fn next_forward(&self, shape: &Shape) -> Next {
        let Some(step) = self.steps.iter().position(|it| it.output.is_none()) else {
            return Next::Complete;
        };
        let (it, rules) = (&self.steps[step], &shape.steps[step]);
        if let Some(until) = it.asleep {
            return Next::Sleep { step, until };
        }
        let after_pivot = step >= shape.forward_from;
        if it.refused {
            return if after_pivot {
                Next::Park { step }
            } else {
                Next::TurnBack { step }
            };
        }
        if !after_pivot && !it.open && it.attempts >= rules.attempts {
            return Next::TurnBack { step };
        }
        Next::Run {
            step,
            open: it.open,
        }
    }

    fn next_back(&self, shape: &Shape) -> Next {
        for (step, (it, rules)) in self.steps.iter().zip(&shape.steps).enumerate().rev() {
            let touched = it.output.is_some() || it.doubtful;
            let asked = rules.undo_always && it.attempts > 0;
            if (touched || asked) && !rules.sleeps && !it.undone && !it.undo_refused {
                return Next::Undo {
                    step,
                    open: it.undo_open,
                };
            }
        }
        match self.steps.iter().rposition(|it| it.undo_refused) {
            Some(step) => Next::Park { step },
            None => Next::AllUndone,
        }
    }
}
