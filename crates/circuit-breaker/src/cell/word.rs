//! The one word that a call reads: state, generation, and how many failed in a row.

use crate::{State, machine::GENERATIONS};

const STATE_BITS: u64 = 3;
const STREAK_BITS: u64 = 21;
const STREAK_MASK: u64 = (1 << STREAK_BITS) - 1;
const GENERATION: u64 = STATE_BITS + STREAK_BITS;

/// `[generation 40 | streak 21 | state 3]`. Closed is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    /// The longest streak that it can hold.
    pub(crate) const MAX_STREAK: u32 = 1_000_000;

    pub(crate) const fn new(state: State, generation: u64) -> Self {
        let state = match state {
            State::Closed => 0,
            State::MetricsOnly => 1,
            State::Open => 2,
            State::HalfOpen => 3,
            State::ForcedOpen => 4,
            State::Disabled => 5,
            State::Isolated => 6,
        };
        Self((generation % GENERATIONS) << GENERATION | state)
    }

    /// Closed, and nothing failed last.
    #[inline]
    pub(crate) const fn closed(generation: u64) -> Self {
        Self(generation << GENERATION)
    }

    #[inline]
    pub(crate) const fn is_closed(self) -> bool {
        self.0 & ((1 << STATE_BITS) - 1) == 0
    }

    pub(crate) const fn state(self) -> State {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => State::Closed,
            1 => State::MetricsOnly,
            2 => State::Open,
            3 => State::HalfOpen,
            4 => State::ForcedOpen,
            5 => State::Disabled,
            _ => State::Isolated,
        }
    }

    #[inline]
    pub(crate) const fn generation(self) -> u64 {
        self.0 >> GENERATION
    }

    pub(crate) const fn streak(self) -> u64 {
        self.0 >> STATE_BITS & STREAK_MASK
    }

    /// The same with a streak of this length, or the longest that can be told.
    pub(crate) const fn with_streak(self, streak: u64) -> Self {
        let streak = if streak > STREAK_MASK {
            STREAK_MASK
        } else {
            streak
        };
        Self(self.0 & !(STREAK_MASK << STATE_BITS) | streak << STATE_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_word_is_found_in_it() {
        for state in [
            State::Closed,
            State::Open,
            State::HalfOpen,
            State::ForcedOpen,
            State::Disabled,
            State::MetricsOnly,
            State::Isolated,
        ] {
            let word = Word::new(state, GENERATIONS - 1).with_streak(u64::MAX);
            assert_eq!((word.state(), word.generation()), (state, GENERATIONS - 1));
            assert_eq!(word.streak(), STREAK_MASK);
            assert_eq!(word.is_closed(), state == State::Closed);
            assert_eq!(word.with_streak(0), Word::new(state, GENERATIONS - 1));
        }
        assert!(u64::from(Word::MAX_STREAK) <= STREAK_MASK);
    }
}
