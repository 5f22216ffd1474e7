//! The rule by which a store that let a deadline strike is left alone.

use std::time::Duration;

use buttress_core::Moment;

/// For how long a store is left alone after the first strike.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// The pause doubles with each further strike, up to this unless another is chosen.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// How a call that was let through ended, as far as the store's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The store answered, if only with a refusal.
    Answered,
    /// The deadline struck.
    Struck,
    /// It failed at once, without an answer: somebody may be restarting it.
    Unreachable,
    /// The caller dropped the call.
    Abandoned,
}

/// Given to a call that is let through. It is of the generation in which that happened: what was
/// begun before a pause decides nothing after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Alone { until: Moment, pause: Duration },
    Probing { since: Moment, pause: Duration },
}

/// Open, or left alone for a while, or asked by one call whether it is back.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    generation: u64,
    longest: Duration,
}

impl Machine {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Open,
            generation: 0,
            longest: LONGEST,
        }
    }

    /// From now on no pause is longer than this.
    pub(super) const fn pause_at_most(&mut self, longest: Duration) {
        self.longest = longest;
    }

    /// Whether a call may go through now; if not, after how long it is worth asking again.
    pub(super) fn enter(&mut self, now: Moment) -> Result<Ticket, Duration> {
        let pause = match self.state {
            State::Open => return Ok(Ticket(self.generation)),
            State::Alone { until, .. } if now < until => return Err(until.saturating_since(now)),
            // A probe whose ticket never came back does not close the store for ever.
            State::Probing { since, .. } if now < since.saturating_add(LONGEST) => {
                return Err(FIRST);
            }
            State::Alone { pause, .. } | State::Probing { pause, .. } => pause,
        };
        self.turn(State::Probing { since: now, pause });
        Ok(Ticket(self.generation))
    }

    /// A call ended.
    pub(super) fn leave(&mut self, ticket: Ticket, left: Left, now: Moment) {
        if ticket.0 != self.generation {
            return;
        }
        let next = match (self.state, left) {
            (State::Open, Left::Struck) => FIRST,
            (State::Probing { .. }, Left::Answered) => return self.turn(State::Open),
            (State::Probing { pause, .. }, Left::Struck | Left::Unreachable) => {
                pause.saturating_mul(2).min(self.longest)
            }
            // It says nothing, and callers who give up early must not become a stampede.
            (State::Probing { pause, .. }, Left::Abandoned) => pause,
            (State::Open | State::Alone { .. }, _) => return,
        };
        let until = now.saturating_add(next);
        self.turn(State::Alone { until, pause: next });
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn the_pause_doubles_from_a_second_to_thirty_and_ends_with_an_answer() {
        let mut machine = Machine::new();
        let mut now = 0;
        let ticket = machine.enter(at(now)).unwrap();
        machine.leave(ticket, Left::Struck, at(now));
        for pause in [1, 2, 4, 8, 16, 30, 30, 30].map(|seconds| seconds * 1000) {
            let wait = machine.enter(at(now + pause - 1)).unwrap_err();
            assert_eq!(wait, Duration::from_millis(1), "{pause}");
            now += pause;
            let probe = machine.enter(at(now)).unwrap();
            assert!(machine.enter(at(now)).is_err(), "one probe at a time");
            machine.leave(probe, Left::Struck, at(now));
        }
        now += 30_000;
        let probe = machine.enter(at(now)).unwrap();
        machine.leave(probe, Left::Answered, at(now));
        let ticket = machine.enter(at(now)).unwrap();
        machine.leave(ticket, Left::Struck, at(now));
        let wait = machine.enter(at(now)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1), "it begins anew");
    }

    #[test]
    fn no_pause_is_longer_than_was_chosen() {
        let mut machine = Machine::new();
        machine.pause_at_most(Duration::from_secs(3));
        let mut now = 0;
        let ticket = machine.enter(at(now)).unwrap();
        machine.leave(ticket, Left::Struck, at(now));
        for pause in [1000, 2000, 3000, 3000] {
            assert!(machine.enter(at(now + pause - 1)).is_err(), "{pause}");
            now += pause;
            let probe = machine.enter(at(now)).unwrap();
            machine.leave(probe, Left::Unreachable, at(now));
        }
    }

    #[test]
    fn a_hundred_calls_that_strike_together_are_one_strike() {
        let mut machine = Machine::new();
        let tickets: Vec<_> = (0..100).map(|_| machine.enter(at(0)).unwrap()).collect();
        for ticket in tickets {
            machine.leave(ticket, Left::Struck, at(10));
        }
        assert_eq!(machine.enter(at(10)).unwrap_err(), Duration::from_secs(1));
    }

    #[test]
    fn a_call_begun_before_the_pause_does_not_end_it() {
        let mut machine = Machine::new();
        let (early, other) = (machine.enter(at(0)).unwrap(), machine.enter(at(0)).unwrap());
        machine.leave(early, Left::Struck, at(0));
        machine.leave(other, Left::Answered, at(1));
        assert!(machine.enter(at(2)).is_err());
    }

    #[test]
    fn only_a_struck_deadline_closes_an_open_gate() {
        let mut machine = Machine::new();
        for left in [Left::Answered, Left::Unreachable, Left::Abandoned] {
            let ticket = machine.enter(at(0)).unwrap();
            machine.leave(ticket, left, at(0));
            assert!(machine.enter(at(0)).is_ok(), "{left:?}");
        }
    }

    #[test]
    fn a_probe_that_is_dropped_gives_its_place_back_after_the_same_pause() {
        let mut machine = Machine::new();
        let ticket = machine.enter(at(0)).unwrap();
        machine.leave(ticket, Left::Struck, at(0));
        let probe = machine.enter(at(1000)).unwrap();
        machine.leave(probe, Left::Abandoned, at(1000));
        assert_eq!(machine.enter(at(1000)).unwrap_err(), Duration::from_secs(1));
        assert!(machine.enter(at(2000)).is_ok());
        // This one never comes back at all.
        assert!(machine.enter(at(31_999)).is_err());
        assert!(machine.enter(at(32_000)).is_ok());
    }

    #[test]
    fn a_probe_that_reaches_nobody_makes_the_pause_longer() {
        let mut machine = Machine::new();
        let ticket = machine.enter(at(0)).unwrap();
        machine.leave(ticket, Left::Struck, at(0));
        let probe = machine.enter(at(1000)).unwrap();
        machine.leave(probe, Left::Unreachable, at(1000));
        assert_eq!(machine.enter(at(1000)).unwrap_err(), Duration::from_secs(2));
    }
}
