//! What the fleet asks of the cell, and does to it.

use buttress_core::Moment;

use super::Cell;
use crate::{Cause, State, machine::Steps};

/// A breaker as of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) state: State,
    pub(crate) generation: u64,
    pub(crate) until: Moment,
    pub(crate) steps: Steps,
}

impl Seen {
    /// It is open by what it saw itself.
    pub(crate) const fn is_open_by_itself(&self) -> bool {
        let others = matches!(self.steps.cause, Cause::Fleet | Cause::ByHand);
        matches!(self.state, State::Open) && !others
    }

    /// It is open because the others are.
    pub(crate) const fn is_open_by_fleet(&self) -> bool {
        matches!((self.state, self.steps.cause), (State::Open, Cause::Fleet))
    }
}

impl Cell {
    pub(crate) fn seen(&self) -> Seen {
        self.with(|machine| Seen {
            state: machine.state(),
            generation: machine.generation(),
            until: machine.until(),
            steps: machine.steps(),
        })
    }

    /// Ends an open time early, if it is still that generation's. Whether it was.
    pub(crate) fn hasten(&self, generation: u64, now: Moment) -> bool {
        self.with(|machine| machine.hasten(generation, now))
    }
}
