//! What happened lately: the last calls, or the last while. Counted by atomics, without a lock.

mod buckets;
mod ring;

use buttress_core::Moment;

pub(crate) use self::{
    buckets::{Buckets, Unjudged},
    ring::{Ring, Turn},
};
use crate::machine::{Counts, Limits, Sample};

/// A value on cache lines of its own, so that writing it does not slow the reading of others.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

/// The window of one breaker.
///
/// Everything in it carries a tag, made of the generation that is counted: what comes in with an
/// older one changes nothing. Tags are of 8 bits. To be taken for a new one, a thread would have
/// to be stalled, between two instructions, over exactly a multiple of 256 changes of state.
#[derive(Debug)]
pub(crate) enum Window {
    /// Nothing is counted: consecutive failures alone decide.
    None,
    /// The last calls.
    Ring(Ring),
    /// The last while.
    Buckets(Buckets),
}

/// The tag of a generation.
#[inline]
pub(crate) const fn tag_of(generation: u64) -> u64 {
    generation & 0xff
}

/// A success of a plain call changed the window, and the counts must be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Changed {
    Ring(Turn),
    Buckets(Unjudged),
}

impl Window {
    /// Whether one more success leaves it as it is.
    #[inline]
    pub(crate) fn is_untouched_by_success(&self, tag: u64) -> bool {
        match self {
            Self::None => true,
            Self::Ring(ring) => ring.is_full_of_successes(tag),
            Self::Buckets(_) => false,
        }
    }

    /// Takes a success as far as nobody has to judge anything; what is left of it goes to
    /// [`Window::counts_after`].
    #[inline]
    pub(crate) fn take_success(&self, tag: u64, now: impl FnOnce() -> Moment) -> Option<Changed> {
        match self {
            Self::None => None,
            Self::Ring(ring) if ring.is_full_of_successes(tag) => None,
            Self::Ring(ring) => ring.turn(tag, Sample::SUCCESS).map(Changed::Ring),
            Self::Buckets(buckets) => buckets.take_success(tag, now()).map(Changed::Buckets),
        }
    }

    pub(crate) fn counts_after(
        &self,
        tag: u64,
        changed: Changed,
        limits: impl FnOnce() -> Limits,
    ) -> Option<Counts> {
        match (self, changed) {
            (Self::Ring(ring), Changed::Ring(turn)) => ring.replace(turn, tag, Sample::SUCCESS),
            (Self::Buckets(buckets), Changed::Buckets(unjudged)) => {
                Some(buckets.counts_after(tag, unjudged, limits))
            }
            _ => None,
        }
    }

    /// Takes a result. Returns the counts where they have to be judged: where the result could
    /// have made them reach a threshold that they had not reached before. `always` asks for them
    /// whenever they changed.
    #[inline]
    pub(crate) fn record(
        &self,
        tag: u64,
        sample: Sample,
        now: impl FnOnce() -> Moment,
        limits: impl FnOnce() -> Limits,
        always: bool,
    ) -> Option<Counts> {
        match self {
            Self::None => None,
            Self::Ring(ring) => ring.record(tag, sample),
            Self::Buckets(buckets) => buckets.record(tag, sample, now(), limits, always),
        }
    }

    /// What is in it now.
    pub(crate) fn counts(&self, tag: u64, now: Moment) -> Counts {
        match self {
            Self::None => Counts::default(),
            Self::Ring(ring) => ring.counts(tag),
            Self::Buckets(buckets) => buckets.counts(tag, now),
        }
    }

    /// Empties it for the generation of this tag. Not from two threads at once.
    pub(crate) fn reset(&self, tag: u64) {
        match self {
            Self::None => {}
            Self::Ring(ring) => ring.reset(tag),
            Self::Buckets(buckets) => buckets.reset(tag),
        }
    }
}
