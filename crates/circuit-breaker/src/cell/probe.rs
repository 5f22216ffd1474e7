//! Half-open: each probe is counted under the lock.

use buttress_core::Moment;

use super::{
    Cell,
    answers::{Acquired, Opens, Refusal, Settled, Ticket},
    word::Word,
};
use crate::{
    Cause, State,
    machine::{Admission, Machine, Sample, Settlement},
    window::tag_of,
};

impl Cell {
    #[cold]
    pub(super) fn acquire_probe(&self, now: Moment) -> Acquired {
        self.with(|machine| {
            let (admission, moved) = machine.admit(now);
            match admission {
                Admission::Granted => {
                    let ticket = Ticket {
                        generation: machine.generation(),
                        started: now,
                    };
                    Acquired::Ticket(ticket, moved)
                }
                Admission::Refused(rest) => Acquired::Refused(Refusal::Now(machine.state(), rest)),
                Admission::Full => Acquired::Refused(Refusal::Full),
                Admission::MustOpen(cause) => Acquired::MustOpen(self.opens(machine, cause, now)),
            }
        })
    }

    fn opens(&self, machine: &Machine, cause: Cause, now: Moment) -> Opens {
        Opens {
            generation: machine.generation(),
            cause,
            counts: machine
                .probes()
                .unwrap_or_else(|| self.window.counts(tag_of(machine.generation()), now)),
            openings: machine.openings(),
        }
    }

    #[cold]
    pub(super) fn settle_probe(
        &self,
        word: Word,
        ticket: Ticket,
        sample: Sample,
        now: impl FnOnce() -> Moment,
    ) -> (Settled, Sample) {
        if word.state() != State::HalfOpen {
            // Disabled: nothing is counted.
            return (Settled::Counted, sample);
        }
        let now = now();
        let slow_after = self.limits.slow_after();
        let is_slow = slow_after.is_some_and(|it| now.saturating_since(ticket.started) > it);
        let sample = match is_slow && !sample.is_abandoned() {
            true => sample.slow(),
            false => sample,
        };
        let settled = self.with(
            |machine| match machine.settle(ticket.generation, sample, now) {
                Settlement::Late => Settled::Late,
                Settlement::Counted if sample.is_abandoned() => Settled::Freed,
                Settlement::Counted => Settled::Counted,
                Settlement::Closed(moved) => Settled::Moved(moved),
                Settlement::MustOpen(cause) => Settled::MustOpen(self.opens(machine, cause, now)),
            },
        );
        (settled, sample)
    }

    /// Takes back a ticket whose call says nothing.
    pub(crate) fn give_back(&self, ticket: Ticket) -> Settled {
        let word = self.word();
        if word.generation() != ticket.generation {
            return Settled::Late;
        }
        if word.state() != State::HalfOpen {
            return Settled::Counted;
        }
        match self.with(|machine| machine.give_back(ticket.generation)) {
            true => Settled::Freed,
            false => Settled::Late,
        }
    }
}
