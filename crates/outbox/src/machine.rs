//! The relay's rules, as plain code: which lane a key is in, what an answer means, how much is
//! tried at once after a crash, how long a destination is left alone, who holds how many lanes.

use std::time::Duration;

use crate::PublishErrorKind;

/// The lane of a key: FNV-1a of 64 bits, folded. It is written into rows, so it never changes.
pub(crate) fn lane_of(key: &[u8], lanes: i16) -> i16 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = hash ^ (hash >> 32);
    let lanes = u64::from(lanes.unsigned_abs()).max(1);
    // Less than the number of lanes, which is an i16.
    i16::try_from(folded % lanes).unwrap_or(0)
}

/// What is known about a message that was not delivered at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Verdicts about it.
    pub(crate) failures: u32,
    /// How often its owner died while it was published alone, since its last verdict.
    pub(crate) lapses: u32,
    /// How often it was put off without a verdict.
    pub(crate) waits: u32,
}

/// When a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) failures: u32,
    pub(crate) lapses: u32,
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Failed(PublishErrorKind),
    /// Whoever published it alone died over it.
    Lapsed,
}

/// What is to be done about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Done,
    /// Its key waits as long as the backoff says for its `nth` retry, from 0.
    Wait {
        history: History,
        nth: u32,
    },
    Die {
        history: History,
    },
    /// Nothing: it is tried again with the next read.
    Leave,
}

/// Only what is known about this message counts against it.
pub(crate) fn judge(outcome: Outcome, mut history: History, limits: &Limits) -> Step {
    match outcome {
        Outcome::Delivered => Step::Done,
        Outcome::Failed(PublishErrorKind::Refused) => {
            history.failures = history.failures.saturating_add(1);
            history.lapses = 0;
            if history.failures >= limits.failures {
                return Step::Die { history };
            }
            let nth = history.failures - 1;
            Step::Wait { history, nth }
        }
        Outcome::Failed(PublishErrorKind::RefusedForGood) => {
            history.failures = history.failures.saturating_add(1);
            history.lapses = 0;
            Step::Die { history }
        }
        Outcome::Failed(PublishErrorKind::Unknown) => {
            let nth = history.waits;
            history.waits = history.waits.saturating_add(1);
            history.lapses = 0;
            Step::Wait { history, nth }
        }
        Outcome::Lapsed => {
            history.lapses = history.lapses.saturating_add(1);
            if history.lapses >= limits.lapses {
                return Step::Die { history };
            }
            let nth = history.lapses - 1;
            Step::Wait { history, nth }
        }
        Outcome::Failed(_) => Step::Leave,
    }
}

/// How many rows of a lane are tried at once. After a crash it is one, and doubles with each turn
/// that ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    rows: u32,
    most: u32,
}

impl Pace {
    pub(crate) const fn full(most: u32) -> Self {
        Self { rows: most, most }
    }

    pub(crate) const fn lapsed(&mut self) {
        self.rows = 1;
    }

    pub(crate) const fn went_well(&mut self) {
        let doubled = self.rows.saturating_mul(2);
        self.rows = if doubled < self.most {
            doubled
        } else {
            self.most
        };
    }

    pub(crate) const fn rows(&self) -> u32 {
        self.rows
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.rows == self.most
    }
}

/// How much of a lane's rows is published in this turn: the first so many, and whether that is
/// one message alone. `lapses` are the rows' own, in order.
///
/// A message over which somebody died is always alone, so that it takes no neighbour with it.
pub(crate) fn take(mut lapses: impl ExactSizeIterator<Item = u32>, pace: Pace) -> (usize, bool) {
    let most = usize::try_from(pace.rows()).unwrap_or(usize::MAX);
    let most = lapses.len().min(most);
    match lapses.position(|lapses| lapses > 0) {
        Some(0) => (most.min(1), true),
        Some(before) => (most.min(before), pace.rows() == 1),
        None => (most, pace.rows() == 1 && most == 1),
    }
}

/// A destination that is down: left alone longer each time, and then tried with one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outage {
    strikes: u32,
}

impl Outage {
    /// It is down: the place of its pause in the backoff, from 0.
    pub(crate) const fn struck(&mut self) -> u32 {
        let nth = self.strikes;
        self.strikes = self.strikes.saturating_add(1);
        nth
    }

    /// It answered. Whether it had been down.
    pub(crate) const fn answered(&mut self) -> bool {
        let was = self.strikes > 0;
        self.strikes = 0;
        was
    }

    pub(crate) const fn is_down(&self) -> bool {
        self.strikes > 0
    }
}

/// How many lanes one of so many relays holds at most: together they hold all, and when one goes,
/// the others take over what it held.
pub(crate) fn fair_share(lanes: i16, relays: u32) -> usize {
    let lanes = usize::from(lanes.unsigned_abs());
    let relays = usize::try_from(relays.max(1)).unwrap_or(usize::MAX);
    lanes.div_ceil(relays)
}

/// The longer of the two waits, within the longest.
pub(crate) fn wait(backoff: Duration, told: Option<Duration>, longest: Duration) -> Duration {
    backoff.max(told.unwrap_or_default()).min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        failures: 3,
        lapses: 2,
    };

    #[test]
    fn a_key_stays_in_its_lane_for_ever() {
        for (key, lane) in [
            (&b""[..], 1),
            (b"a", 0),
            (b"order 7", 25),
            (&[0xff; 255], 3),
        ] {
            assert_eq!(lane_of(key, 64), lane, "{key:?}");
        }
    }

    #[test]
    fn only_verdicts_and_lone_lapses_count() {
        use PublishErrorKind::{Down, Gone, Refused, RefusedForGood, Skipped, Unknown};
        let mut history = History::default();
        for kind in [Down, Gone, Skipped] {
            let step = judge(Outcome::Failed(kind), history, &LIMITS);
            assert_eq!(step, Step::Leave);
        }
        for nth in 0..100 {
            let step = judge(Outcome::Failed(Unknown), history, &LIMITS);
            history.waits += 1;
            assert_eq!(step, Step::Wait { history, nth });
        }
        history.failures = 1;
        let Step::Wait { history, nth: 1 } = judge(Outcome::Failed(Refused), history, &LIMITS)
        else {
            panic!()
        };
        let last = judge(Outcome::Failed(Refused), history, &LIMITS);
        assert!(matches!(last, Step::Die { history } if history.failures == 3));
        let last = judge(Outcome::Failed(RefusedForGood), History::default(), &LIMITS);
        assert!(matches!(last, Step::Die { .. }));
    }

    #[test]
    fn any_verdict_resets_the_lapses() {
        let history = History {
            lapses: 1,
            ..History::default()
        };
        assert!(matches!(
            judge(Outcome::Lapsed, history, &LIMITS),
            Step::Die { .. }
        ));
        let refused = Outcome::Failed(PublishErrorKind::Refused);
        let Step::Wait { history, .. } = judge(refused, history, &LIMITS) else {
            panic!()
        };
        assert_eq!(history.lapses, 0);
    }

    #[test]
    fn after_a_crash_rows_are_tried_alone_and_then_by_twos() {
        let mut pace = Pace::full(10);
        pace.lapsed();
        assert_eq!(take([0, 0, 0].into_iter(), pace), (1, true));
        for rows in [2, 4, 8, 10, 10] {
            pace.went_well();
            assert_eq!(pace.rows(), rows);
        }
        assert!(pace.is_full());
        assert_eq!(take([0, 0, 1].into_iter(), pace), (2, false));
        assert_eq!(take([3, 0, 0].into_iter(), pace), (1, true));
        assert_eq!(take([].into_iter(), pace), (0, false));
    }

    proptest! {
        #[test]
        fn shares_cover_all_lanes(lanes in 1_i16..=128, relays in 1_u32..300) {
            let share = fair_share(lanes, relays);
            let relays = usize::try_from(relays).unwrap();
            prop_assert!(share * relays >= usize::from(lanes.unsigned_abs()));
            prop_assert!(share >= 1);
        }

        #[test]
        fn every_key_has_a_lane(key: Vec<u8>, lanes in 1_i16..=256) {
            prop_assert!((0..lanes).contains(&lane_of(&key, lanes)));
        }
    }
}
