//! The rules: which state follows which. Told the time; it locks nothing and waits for nothing.
//!
//! What happens while closed is counted outside, in a window of atomics; the machine is told when
//! a threshold has been reached. How long the breaker stays open is asked of the user's code, so
//! opening takes two steps: the machine says that it must open, and is told until when, by
//! generation, so that nothing that happened between the two is overwritten.

mod counts;
#[cfg(feature = "fleet")]
pub(crate) mod fleet;
mod ramp;
mod round;
mod sample;

use std::time::Duration;

use buttress_core::Moment;

pub use self::counts::Counts;
use self::round::{Round, Verdict};
pub(crate) use self::{
    counts::Limits,
    ramp::Ramp,
    round::{Decides, Rules},
    sample::Sample,
};
use crate::{Cause, State};

/// What a breaker is in, isolation apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Moment },
    HalfOpen(Round),
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

/// A change of state that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) cause: Cause,
    /// That of the new state.
    pub(crate) generation: u64,
}

/// The answer to one who wants to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Granted,
    /// Not now; after that long perhaps, where it can be told.
    Refused(Option<Duration>),
    /// All probes of the round are out.
    Full,
    /// The round took too long: open, then refuse.
    MustOpen(Cause),
}

/// What a result of the half-open state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// It came too late to decide anything.
    Late,
    /// It counts, and decides nothing yet.
    Counted,
    /// The round has passed, and the breaker is closed.
    Closed(Move),
    /// The round has failed: open.
    MustOpen(Cause),
}

/// As many generations are told apart: they share a word with other things. To be taken for a new
/// one, a permit would have to be held over exactly so many changes of state.
pub(crate) const GENERATIONS: u64 = 1 << 40;

/// The state of one breaker.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    rules: Rules,
    phase: Phase,
    /// How many hold it isolated.
    isolations: u32,
    /// Grows with every change of state. A permit is of the generation in which it was given.
    generation: u64,
    /// How often it has opened since it was last closed.
    openings: u32,
    /// When its probes closed it; nothing when that was done by hand.
    healed: Option<Moment>,
    /// What is known of its last steps, for those it tells of them.
    steps: Steps,
}

/// The last steps of a breaker, as far as other instances care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    /// Why it is what it is.
    pub(crate) cause: Cause,
    /// When a threshold or its probes opened it last.
    pub(crate) opened: Moment,
    /// When its probes closed it last.
    pub(crate) closed: Option<Moment>,
}

impl Machine {
    pub(crate) const fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Closed,
            isolations: 0,
            generation: 1,
            openings: 0,
            healed: None,
            steps: Steps {
                cause: Cause::ByHand,
                opened: Moment::START,
                closed: None,
            },
        }
    }

    pub(crate) const fn state(&self) -> State {
        if self.isolations > 0 {
            return State::Isolated;
        }
        self.beneath()
    }

    /// What it is, isolation apart.
    pub(crate) const fn beneath(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen(_) => State::HalfOpen,
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::Disabled => State::Disabled,
            Phase::MetricsOnly => State::MetricsOnly,
        }
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) const fn openings(&self) -> u32 {
        self.openings
    }

    /// What the probes of the round came to, when there is one.
    pub(crate) fn probes(&self) -> Option<Counts> {
        match &self.phase {
            Phase::HalfOpen(round) => Some(round.counts()),
            _ => None,
        }
    }

    /// Since when its probes have closed it, while it is closed.
    pub(crate) const fn healed(&self) -> Option<Moment> {
        match self.phase {
            Phase::Closed => self.healed,
            _ => None,
        }
    }

    /// It has closed so long ago that nobody asks any more.
    pub(crate) const fn forget_healing(&mut self) {
        self.healed = None;
    }

    /// Until when it is open; the start of time when it is not.
    pub(crate) const fn until(&self) -> Moment {
        match self.phase {
            Phase::Open { until } => until,
            _ => Moment::START,
        }
    }

    /// Other rules from now on. A round that is under way could never end by them: it begins anew
    /// with the next call.
    pub(crate) fn set_rules(&mut self, rules: Rules) -> Option<Move> {
        if self.rules == rules {
            return None;
        }
        self.rules = rules;
        if !matches!(self.phase, Phase::HalfOpen(_)) {
            return None;
        }
        let until = Moment::START;
        self.enter(Phase::Open { until }, Cause::ByHand)
    }

    /// One wants to call. The second value is the change of state that this made.
    pub(crate) fn admit(&mut self, now: Moment) -> (Admission, Option<Move>) {
        if self.isolations > 0 {
            return (Admission::Refused(None), None);
        }
        match &mut self.phase {
            Phase::Closed | Phase::Disabled | Phase::MetricsOnly => (Admission::Granted, None),
            Phase::ForcedOpen => (Admission::Refused(None), None),
            Phase::Open { until } if now < *until => {
                (Admission::Refused(Some(until.saturating_since(now))), None)
            }
            Phase::Open { .. } => {
                let mut round = Round::begin(&self.rules, now);
                round.admit(&self.rules);
                let moved = self.enter(Phase::HalfOpen(round), Cause::OpenTimeOver);
                (Admission::Granted, moved)
            }
            Phase::HalfOpen(round) if round.is_over(now) => {
                (Admission::MustOpen(Cause::ProbesLate), None)
            }
            Phase::HalfOpen(round) => match round.admit(&self.rules) {
                true => (Admission::Granted, None),
                false => (Admission::Full, None),
            },
        }
    }

    /// A probe of this generation came back.
    pub(crate) fn settle(&mut self, generation: u64, sample: Sample, now: Moment) -> Settlement {
        let Some(round) = self.round(generation) else {
            return Settlement::Late;
        };
        if round.is_over(now) {
            return Settlement::MustOpen(Cause::ProbesLate);
        }
        let rules = self.rules;
        let verdict = self
            .round(generation)
            .and_then(|round| round.settle(&rules, sample));
        match verdict {
            None => Settlement::Counted,
            Some(Verdict::Failed(cause)) => Settlement::MustOpen(cause),
            Some(Verdict::Passed) => {
                self.openings = 0;
                self.healed = Some(now);
                self.steps.closed = Some(now);
                self.enter(Phase::Closed, Cause::ProbesSucceeded)
                    .map_or(Settlement::Counted, Settlement::Closed)
            }
        }
    }

    /// A probe of this generation says nothing: its slot is free again. False when it came late.
    pub(crate) fn give_back(&mut self, generation: u64) -> bool {
        let round = self.round(generation);
        round.map(Round::give_back).is_some()
    }

    const fn round(&mut self, generation: u64) -> Option<&mut Round> {
        match &mut self.phase {
            Phase::HalfOpen(round) if self.generation == generation && self.isolations == 0 => {
                Some(round)
            }
            _ => None,
        }
    }

    /// Opens it, if it is still in that generation.
    pub(crate) fn open(
        &mut self,
        generation: u64,
        now: Moment,
        until: Moment,
        cause: Cause,
    ) -> Option<Move> {
        if self.generation != generation {
            return None;
        }
        self.openings = self.openings.saturating_add(1);
        self.steps.opened = now;
        self.enter(Phase::Open { until }, cause)
    }

    /// Somebody says what it shall be. Opening by hand counts as no opening. Isolation stays on
    /// top of it.
    pub(crate) fn set(&mut self, state: Told) -> Option<Move> {
        let phase = match state {
            Told::Closed => Phase::Closed,
            Told::Open { until } => Phase::Open { until },
            Told::ForcedOpen => Phase::ForcedOpen,
            Told::Disabled => Phase::Disabled,
            Told::MetricsOnly => Phase::MetricsOnly,
        };
        if matches!(state, Told::Closed) {
            self.openings = 0;
            self.healed = None;
        }
        self.enter(phase, Cause::ByHand)
    }

    /// As it was in another life: the number of openings is believed.
    pub(crate) fn restore(&mut self, state: Told, openings: u32) {
        self.set(state);
        self.openings = openings;
    }

    pub(crate) fn isolate(&mut self) -> Option<Move> {
        let from = self.state();
        self.isolations = self.isolations.saturating_add(1);
        self.moved(from, Cause::ByHand)
    }

    /// One of those who isolated it lets go. After the last it is again what it was before; a
    /// round that was interrupted begins anew with the next call.
    pub(crate) fn rejoin(&mut self) -> Option<Move> {
        let from = self.state();
        self.isolations = self.isolations.saturating_sub(1);
        if self.isolations == 0 && matches!(self.phase, Phase::HalfOpen(_)) {
            self.phase = Phase::Open {
                until: Moment::START,
            };
        }
        self.moved(from, Cause::ByHand)
    }

    #[cfg(feature = "fleet")]
    pub(crate) const fn steps(&self) -> Steps {
        self.steps
    }

    /// Ends an open time that others were the cause of, if it is still in that generation: the next
    /// call is a probe.
    #[cfg(feature = "fleet")]
    pub(crate) fn hasten(&mut self, generation: u64, now: Moment) -> bool {
        match self.phase {
            Phase::Open { until } if self.generation == generation && now < until => {
                self.enter(Phase::Open { until: now }, Cause::Fleet);
                true
            }
            _ => false,
        }
    }

    fn enter(&mut self, phase: Phase, cause: Cause) -> Option<Move> {
        let from = self.state();
        self.phase = phase;
        self.steps.cause = cause;
        // Also without a change of state: what began before does not count in what begins now.
        self.turn();
        (from != self.state()).then_some(Move {
            from,
            to: self.state(),
            cause,
            generation: self.generation,
        })
    }

    const fn turn(&mut self) {
        self.generation = (self.generation + 1) % GENERATIONS;
    }

    fn moved(&mut self, from: State, cause: Cause) -> Option<Move> {
        (from != self.state()).then(|| {
            self.turn();
            Move {
                from,
                to: self.state(),
                cause,
                generation: self.generation,
            }
        })
    }
}

/// What a breaker can be told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Closed,
    Open { until: Moment },
    ForcedOpen,
    Disabled,
    MetricsOnly,
}
