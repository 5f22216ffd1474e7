//! The rule of a seat: until when a post may arrive.

use std::time::Duration;

use buttress_core::Moment;

use crate::Micros;

/// What one member knows about a board's time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Machine {
    known: Option<Known>,
}

/// The board's time when it answered a question that was sent at that moment.
#[derive(Clone, Copy, Debug)]
struct Known {
    board: Micros,
    sent: Moment,
}

impl Machine {
    /// The latest arrival of a post that is sent now; none while the board's time is not known.
    ///
    /// The board answered after the question was sent, so its time now is no later than what it
    /// said and the time since then. A post that is sent now thus arrives at most twice `allowed`
    /// after this moment, or not at all.
    pub(super) fn not_after(&self, now: Moment, allowed: Duration) -> Option<Micros> {
        let known = self.known?;
        let since = now.saturating_since(known.sent);
        Some(known.board + since + allowed)
    }

    /// The board answered a question that was sent then.
    pub(super) fn answered(&mut self, sent: Moment, board: Micros) {
        if self.known.is_none_or(|known| known.sent <= sent) {
            self.known = Some(Known { board, sent });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_posted_before_the_boards_time_is_known() {
        let mut machine = Machine::default();
        assert_eq!(machine.not_after(Moment::START, Duration::MAX), None);
        machine.answered(Moment::START, Micros::new(5));
        let latest = machine.not_after(Moment::START, Duration::from_micros(2));
        assert_eq!(latest, Some(Micros::new(7)));
    }

    #[test]
    fn a_late_answer_does_not_replace_a_newer_one() {
        let mut machine = Machine::default();
        let at = Moment::from_nanos;
        machine.answered(at(2_000), Micros::new(100));
        machine.answered(at(1_000), Micros::new(50));
        let latest = machine.not_after(at(3_000), Duration::ZERO);
        assert_eq!(latest, Some(Micros::new(101)));
    }

    proptest! {
        /// Two clocks of the same speed with any difference between them, any way there and back.
        #[test]
        fn what_is_taken_was_sent_at_most_twice_the_allowed_time_ago(
            offset in 0_u64..1 << 50, sent in 0_u64..1 << 40, there in 0_u64..500_000,
            later in 0_u64..1 << 40, way in 0_u64..5_000_000,
        ) {
            let allowed = Duration::from_millis(500);
            let board = |micros: u64| Micros::new(i64::try_from(micros + offset).unwrap());
            let moment = |micros: u64| Moment::from_nanos(micros * 1000);
            let mut machine = Machine::default();
            machine.answered(moment(sent), board(sent + there));
            let now = sent + there + later;
            let not_after = machine.not_after(moment(now), allowed).unwrap();
            let taken = board(now + way) <= not_after;
            prop_assert!(!taken || Duration::from_micros(way) <= 2 * allowed);
            prop_assert!(taken || Duration::from_micros(way) > allowed, "one in time was refused");
        }
    }
}
