//! What the cell answers: a ticket or none, and what a result changed.

use std::time::Duration;

use buttress_core::Moment;

use crate::{Cause, Counts, State, machine::Move, window::Changed};

/// What a permit carries: when it was given, and in which generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(super) generation: u64,
    pub(super) started: Moment,
}

impl Ticket {
    /// Where nobody measures it began at the end of time: whenever it ends, it was not slow.
    pub(super) const UNMEASURED: Moment = Moment::from_nanos(u64::MAX);

    /// Of no generation: whatever comes of it is not counted.
    pub(crate) const UNCOUNTED: Self = Self {
        generation: u64::MAX,
        started: Self::UNMEASURED,
    };

    #[inline]
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    #[inline]
    pub(crate) const fn is_counted(&self) -> bool {
        self.generation != u64::MAX
    }
}

/// Why there is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The breaker is in this state, for that long where it can be told.
    Now(State, Option<Duration>),
    /// All probes are out: there may be a place, or a verdict, at any moment.
    Full,
}

/// The answer of [`Cell::acquire`], with what it changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Acquired {
    Ticket(Ticket, Option<Move>),
    Refused(Refusal),
    /// The round took too long: [`Cell::open`] it, then ask again.
    MustOpen(Opens),
}

/// How far a success was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    /// It is another case, and nothing was done.
    No,
    /// It is counted, and there is nothing to judge.
    Yes,
    /// [`Cell::judge_success`](super::Cell::judge_success) has the rest to do.
    Changes(Changed),
}

/// What a result changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Settled {
    /// It was counted, or there was nothing to count.
    Counted,
    /// It came after the state had changed, and changed nothing.
    Late,
    /// A probe's slot is free again.
    Freed,
    Moved(Move),
    /// Open it: in a step of its own, because the user says for how long.
    MustOpen(Opens),
    /// Thresholds were reached for the first time where the breaker may not open.
    Exceeded(Causes, Counts),
}

/// The causes for which a breaker opens, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Causes(pub(super) u8);

impl Causes {
    const ALL: [Cause; 4] = [
        Cause::FailureRate,
        Cause::SlowRate,
        Cause::ConsecutiveFailures,
        Cause::Predicate,
    ];

    pub(super) fn of(causes: impl Iterator<Item = Cause>) -> Self {
        let has = |cause: Cause| Self::ALL.iter().position(|it| *it == cause);
        Self(causes.filter_map(has).fold(0, |set, at| set | 1 << at))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Cause> {
        let has = move |(at, _): &(usize, Cause)| self.0 >> at & 1 == 1;
        Self::ALL
            .into_iter()
            .enumerate()
            .filter(has)
            .map(|(_, cause)| cause)
    }
}

/// What is known of an opening that must happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opens {
    pub(crate) generation: u64,
    pub(crate) cause: Cause,
    pub(crate) counts: Counts,
    /// How often it has opened already since it was last closed.
    pub(crate) openings: u32,
}
