//! The one word that a call reads: state, generation, and how many failed in a row.

use crate::{State, machine::GENERATIONS};

const STATE_BITS: u64 = 4;
const STREAK_BITS: u64 = 20;
const STREAK_MASK: u64 = (1 << STREAK_BITS) - 1;
const GENERATION: u64 = STATE_BITS + STREAK_BITS;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
/// Closed, and calls are measured.
const MEASURED: u64 = 7;
/// Closed, and a growing share of the calls is let through.
const RAMPING: u64 = 8;

/// What a call must heed though it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heed {
    Nothing,
    /// When it began.
    Start,
    /// Whether it is let through; and when it began.
    Ramp,
}

impl Heed {
    const fn code(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Start => MEASURED,
            Self::Ramp => RAMPING,
        }
    }
}

/// `[generation 40 | streak 20 | state 4]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    /// The longest streak that it can hold.
    pub(crate) const MAX_STREAK: u32 = 1_000_000;

    /// `heed` is for the closed state.
    pub(crate) const fn new(state: State, heed: Heed, generation: u64) -> Self {
        let state = match state {
            State::Closed => heed.code(),
            State::MetricsOnly => 1,
            State::Open => 2,
            State::HalfOpen => 3,
            State::ForcedOpen => 4,
            State::Disabled => 5,
            State::Isolated => 6,
        };
        Self((generation % GENERATIONS) << GENERATION | state)
    }

    /// Closed, nothing is measured, and nothing failed last.
    #[inline]
    pub(crate) const fn plain(generation: u64) -> Self {
        Self(generation << GENERATION)
    }

    /// Closed, and nothing is measured.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & STATE_MASK == 0
    }

    #[inline]
    pub(crate) const fn is_closed(self) -> bool {
        matches!(self.0 & STATE_MASK, 0 | MEASURED | RAMPING)
    }

    #[inline]
    pub(crate) const fn is_ramping(self) -> bool {
        self.0 & STATE_MASK == RAMPING
    }

    /// The same, where it is closed, with other things to heed.
    pub(crate) const fn heeding(self, heed: Heed) -> Self {
        if self.is_closed() {
            Self(self.0 & !STATE_MASK | heed.code())
        } else {
            self
        }
    }

    pub(crate) const fn state(self) -> State {
        match self.0 & STATE_MASK {
            0 | MEASURED | RAMPING => State::Closed,
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
            for heed in [Heed::Nothing, Heed::Start, Heed::Ramp] {
                let whole = Word::new(state, heed, GENERATIONS - 1);
                let word = whole.with_streak(u64::MAX);
                assert_eq!((word.state(), word.generation()), (state, GENERATIONS - 1));
                assert_eq!(word.streak(), STREAK_MASK);
                let closed = state == State::Closed;
                assert_eq!(word.is_closed(), closed);
                assert_eq!(word.is_plain(), closed && heed == Heed::Nothing);
                assert_eq!(word.is_ramping(), closed && heed == Heed::Ramp);
                assert_eq!(word.with_streak(0), whole);
                let other = whole.heeding(Heed::Start);
                assert_eq!(other, Word::new(state, Heed::Start, GENERATIONS - 1));
            }
        }
        assert!(u64::from(Word::MAX_STREAK) <= STREAK_MASK);
    }
}
