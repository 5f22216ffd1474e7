//! The rule by which a lease is extended, given up and lost.

use std::time::Duration;

use buttress_core::Moment;

use super::{LeaseTerms, heartbeat::LeaseLost};

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, for so long.
    Wait(Duration),
    /// It is to be extended; the answer is worth waiting for so long.
    Extend(Duration),
    /// It is over.
    Lost(LeaseLost),
}

/// A lease, as its holder sees it: by his own clock, from before the claim was sent.
#[derive(Debug)]
pub(super) struct Machine {
    terms: LeaseTerms,
    /// The last moment at which it is ours for certain.
    until: Moment,
    beat: Moment,
    /// An extension that begins later would reach over the ceiling.
    last_beat: Moment,
    /// Where the ceiling is, less what every lease is given up early by.
    end: Moment,
    lost: Option<LeaseLost>,
}

impl Machine {
    pub(super) fn new(terms: LeaseTerms, sent: Moment) -> Self {
        let length = terms.length();
        let ceiling = length.saturating_mul(terms.ceiling());
        let mut machine = Self {
            terms,
            until: sent,
            beat: sent,
            last_beat: sent.saturating_add(ceiling.saturating_sub(length)),
            end: sent.saturating_add(ceiling.saturating_sub(length / 10)),
            lost: None,
        };
        machine.extended(sent);
        machine
    }

    /// It was extended by a call that was sent then.
    pub(super) fn extended(&mut self, sent: Moment) {
        let length = self.terms.length();
        // A beat that was due in time may be late, and its extension would reach over the ceiling.
        self.until = sent.saturating_add(length - length / 10).min(self.end);
        self.beat = sent.saturating_add(length / 3);
    }

    /// The store did not say whether it extended it: it is asked again soon.
    pub(super) fn not_extended(&mut self, now: Moment) {
        self.beat = now.saturating_add(self.terms.length() / 30);
    }

    /// The store says that it is somebody else's.
    pub(super) const fn taken(&mut self) {
        self.lost = Some(LeaseLost::Taken);
    }

    /// For how much longer it is ours for certain.
    pub(super) fn remaining(&self, now: Moment) -> Duration {
        match self.lost {
            Some(_) => Duration::ZERO,
            None => self.until.saturating_since(now),
        }
    }

    pub(super) fn next(&mut self, now: Moment) -> Next {
        let remaining = self.remaining(now);
        let spent = self.beat > self.last_beat;
        if remaining.is_zero() {
            let over = if spent {
                LeaseLost::Ceiling
            } else {
                LeaseLost::Expired
            };
            return Next::Lost(*self.lost.get_or_insert(over));
        }
        if spent {
            return Next::Wait(remaining);
        }
        match self.beat.saturating_since(now) {
            Duration::ZERO => Next::Extend(remaining),
            wait => Next::Wait(wait.min(remaining)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn terms() -> LeaseTerms {
        let terms = LeaseTerms::new(millis(3000)).unwrap();
        terms.with_ceiling(2).unwrap()
    }

    #[test]
    fn it_is_extended_at_a_third_and_given_up_a_tenth_early() {
        let mut machine = Machine::new(terms(), at(0));
        assert_eq!(machine.next(at(0)), Next::Wait(millis(1000)));
        assert_eq!(machine.next(at(1000)), Next::Extend(millis(1700)));
        machine.extended(at(1000));
        assert_eq!(machine.remaining(at(1000)), millis(2700));
        assert_eq!(machine.remaining(at(3700)), Duration::ZERO);
        assert_eq!(machine.next(at(3700)), Next::Lost(LeaseLost::Expired));
        machine.extended(at(3700));
        assert_eq!(machine.remaining(at(3700)), Duration::ZERO, "lost is lost");
    }

    #[test]
    fn no_extension_reaches_over_the_ceiling() {
        let mut machine = Machine::new(terms(), at(0));
        for beat in [1000, 2000, 3000] {
            assert!(matches!(machine.next(at(beat)), Next::Extend(_)), "{beat}");
            machine.extended(at(beat));
        }
        // The one at 3000 ends at 6000, which is the ceiling.
        assert_eq!(machine.next(at(4000)), Next::Wait(millis(1700)));
        assert_eq!(machine.next(at(5700)), Next::Lost(LeaseLost::Ceiling));
    }

    #[test]
    fn an_extension_that_was_due_in_time_and_came_late_ends_at_the_ceiling() {
        let mut machine = Machine::new(terms(), at(0));
        machine.extended(at(1175));
        assert!(matches!(machine.next(at(3530)), Next::Extend(_)));
        machine.extended(at(3530));
        assert_eq!(machine.remaining(at(3530)), millis(5700 - 3530));
        assert_eq!(machine.next(at(5700)), Next::Lost(LeaseLost::Ceiling));
    }

    #[test]
    fn an_extension_that_failed_is_tried_again_until_the_end() {
        let mut machine = Machine::new(terms(), at(0));
        machine.not_extended(at(1000));
        assert_eq!(machine.next(at(1000)), Next::Wait(millis(100)));
        assert_eq!(machine.next(at(1100)), Next::Extend(millis(1600)));
        machine.not_extended(at(2650));
        assert_eq!(machine.next(at(2650)), Next::Wait(millis(50)));
        assert_eq!(machine.next(at(2700)), Next::Lost(LeaseLost::Expired));
    }

    #[test]
    fn what_was_taken_is_gone_at_once() {
        let mut machine = Machine::new(terms(), at(0));
        machine.taken();
        assert_eq!(machine.remaining(at(1)), Duration::ZERO);
        assert_eq!(machine.next(at(1)), Next::Lost(LeaseLost::Taken));
    }

    proptest! {
        /// Against a store that keeps its own time: when the holder believes in his lease, the
        /// store has not given it away, whatever the calls cost and whichever fail.
        #[test]
        fn the_holder_never_believes_in_a_lease_that_the_store_has_given_away(
            calls in prop::collection::vec((0_u64..4000, 0_u64..4000, any::<bool>()), 1..30),
        ) {
            let mut now = 0;
            let mut machine = Machine::new(terms(), at(now));
            // The claim reached the store later than it was sent.
            let mut stores_until = 3000;
            for (pause, latency, answered) in calls {
                now += pause;
                if let Next::Extend(_) = machine.next(at(now)) {
                    let sent = now;
                    now += latency;
                    if sent + latency / 2 < stores_until {
                        stores_until = sent + latency / 2 + 3000;
                        if answered { machine.extended(at(sent)) } else { machine.not_extended(at(now)) }
                    } else {
                        machine.taken();
                    }
                }
                if !machine.remaining(at(now)).is_zero() {
                    prop_assert!(now < stores_until);
                    prop_assert!(now < 6000, "the ceiling");
                }
            }
        }
    }
}
