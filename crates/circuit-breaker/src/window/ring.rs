//! The last N calls.
//!
//! A result takes a ticket, which is its slot, and replaces what was in it; the sums change by the
//! difference. A window that is full of fast successes is left untouched by one more: that is what
//! makes the closed path one relaxed load.
//!
//! One thread sees exactly the last N. With several, the order is that of the tickets; while k of
//! them are between their ticket and their slot, k slots still hold a result of N calls ago.
//! At rest the sums are those of the slots, whatever happened, resets included: both carry the
//! tag of the generation, and neither is changed by a result of another one.

use super::Line;
use crate::{
    cell::sync::{
        AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
    machine::{Counts, Sample},
};

/// Slots in a word, with the tag at its top. More would fit, but a power of two is divided by sooner,
/// and the next call waits for it: a locked instruction begins when all before it is done.
const SLOTS: u64 = 8;
const SLOT_BITS: u64 = 4;
/// Bits of one of the four sums; the rest is the tag.
const SUM_BITS: u64 = 14;
const SUM_MASK: u64 = (1 << SUM_BITS) - 1;
/// What every sum is raised by: a slot can be replaced before the one who filled it has added it
/// to the sum, which is then too low for a moment, and must not borrow from its neighbour. So
/// many threads would have to be stalled at that point.
const BIAS: u64 = 2048;
const BIASES: u64 = BIAS | BIAS << SUM_BITS | BIAS << (2 * SUM_BITS) | BIAS << (3 * SUM_BITS);
/// Where the tag begins, in slots and sums alike.
const TAG: u64 = 56;

#[derive(Debug)]
pub(crate) struct Ring {
    size: u64,
    /// 2^64 / size, rounded up.
    reciprocal: u64,
    ticket: Line<AtomicU64>,
    /// Calls, failed, slow and abandoned ones, from the lowest bits up, and the tag.
    sums: Line<AtomicU64>,
    slots: Box<[AtomicU64]>,
}

/// A slot that has to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    word: usize,
    shift: u64,
}

impl Ring {
    /// The largest size that the sums can hold.
    pub(crate) const MAX: u32 = 10_000;

    pub(crate) fn new(size: u32, tag: u64) -> Self {
        let size = u64::from(size.clamp(1, Self::MAX));
        let words = size.div_ceil(SLOTS);
        Self {
            size,
            reciprocal: (u64::MAX / size).wrapping_add(1),
            ticket: Line(AtomicU64::new(0)),
            sums: Line(AtomicU64::new(tag << TAG | BIASES)),
            slots: (0..words).map(|_| AtomicU64::new(tag << TAG)).collect(),
        }
    }

    /// Takes a result; returns the counts when it changed them.
    #[inline]
    pub(crate) fn record(&self, tag: u64, sample: Sample) -> Option<Counts> {
        if sample == Sample::SUCCESS && self.is_full_of_successes(tag) {
            return None;
        }
        let turn = self.turn(tag, sample)?;
        self.replace(turn, tag, sample)
    }

    #[inline]
    pub(crate) fn is_full_of_successes(&self, tag: u64) -> bool {
        self.sums.0.load(Relaxed) == (tag << TAG | BIASES) + self.size
    }

    /// Takes a ticket: the slot where it has to be written; nothing where the same is in it
    /// already, as with nearly every success, or the window is another one.
    #[inline]
    pub(crate) fn turn(&self, tag: u64, sample: Sample) -> Option<Turn> {
        let at = self.slot_of(self.ticket.0.fetch_add(1, Relaxed));
        let turn = Turn {
            word: usize::try_from(at / SLOTS).ok()?,
            shift: at % SLOTS * SLOT_BITS,
        };
        let seen = self.slots.get(turn.word)?.load(Relaxed);
        let is_there = seen >> turn.shift & Sample::MASK == sample.bits();
        (!is_there && seen >> TAG == tag).then_some(turn)
    }

    /// `ticket % size`; while it has 32 bits without a division (Lemire, Kaser and Kurz, "Faster
    /// remainder by direct computation", 2019).
    #[inline]
    fn slot_of(&self, ticket: u64) -> u64 {
        if ticket > u64::from(u32::MAX) {
            return ticket % self.size;
        }
        let fraction = u128::from(self.reciprocal.wrapping_mul(ticket));
        u64::try_from((fraction * u128::from(self.size)) >> 64).unwrap_or(0)
    }

    pub(crate) fn replace(&self, turn: Turn, tag: u64, sample: Sample) -> Option<Counts> {
        let Turn { word, shift } = turn;
        let word = self.slots.get(word)?;
        let mut seen = word.load(Relaxed);
        let old = loop {
            let old = seen >> shift & Sample::MASK;
            if seen >> TAG != tag || old == sample.bits() {
                return None;
            }
            let new = seen ^ (old ^ sample.bits()) << shift;
            match word.compare_exchange_weak(seen, new, Relaxed, Relaxed) {
                Ok(_) => break old,
                Err(now) => seen = now,
            }
        };
        let mut seen = self.sums.0.load(Relaxed);
        loop {
            // The window was emptied in between, this slot with it.
            if seen >> TAG != tag {
                return None;
            }
            let new = seen
                .wrapping_add(as_sums(sample.bits()))
                .wrapping_sub(as_sums(old));
            match self
                .sums
                .0
                .compare_exchange_weak(seen, new, Relaxed, Relaxed)
            {
                Ok(_) => return Some(from_sums(new)),
                Err(now) => seen = now,
            }
        }
    }

    pub(crate) fn counts(&self, tag: u64) -> Counts {
        let sums = self.sums.0.load(Relaxed);
        if sums >> TAG != tag {
            return Counts::default();
        }
        let slow_failed = self.slots.iter().map(|word| {
            let word = word.load(Relaxed);
            let both = Sample::FAILED | Sample::SLOW;
            (0..SLOTS)
                .filter(|slot| word >> (slot * SLOT_BITS) & both == both)
                .count() as u64
        });
        Counts {
            slow_failed: slow_failed.sum(),
            ..from_sums(sums)
        }
    }

    pub(crate) fn reset(&self, tag: u64) {
        // The sums first: who has replaced a slot of the old window finds them gone. Swapped, not
        // stored: then no order of memory is left in which an old value comes after the new one.
        self.sums.0.swap(tag << TAG | BIASES, AcqRel);
        for word in &self.slots {
            word.swap(tag << TAG, AcqRel);
        }
    }
}

/// For the check that the sums are those of the slots.
#[cfg(test)]
impl Ring {
    pub(crate) fn counted_in_slots(&self) -> (u64, u64, u64) {
        let count = |mask: u64| {
            let of_word = |word: &AtomicU64| {
                let word = word.load(Relaxed);
                let is_set = |slot: &u64| word >> (slot * SLOT_BITS) & mask != 0;
                (0..SLOTS).filter(is_set).count() as u64
            };
            self.slots.iter().map(of_word).sum()
        };
        (
            count(Sample::PRESENT),
            count(Sample::FAILED),
            count(Sample::SLOW),
        )
    }
}

/// One result as an addend of the sums.
fn as_sums(bits: u64) -> u64 {
    let bit = |mask: u64, at: u64| u64::from(bits & mask != 0) << (at * SUM_BITS);
    bit(Sample::PRESENT, 0)
        + bit(Sample::FAILED, 1)
        + bit(Sample::SLOW, 2)
        + bit(Sample::ABANDONED, 3)
}

fn from_sums(sums: u64) -> Counts {
    let sum = |at: u64| (sums >> (at * SUM_BITS) & SUM_MASK).saturating_sub(BIAS);
    Counts {
        calls: sum(0),
        failed: sum(1),
        slow: sum(2),
        slow_failed: 0,
        abandoned: sum(3),
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::thread;

    use super::*;

    const SAMPLES: [Sample; 4] = [
        Sample::SUCCESS,
        Sample::FAILURE,
        Sample::FAILURE.slow(),
        Sample::DROPPED,
    ];

    #[test]
    fn threads_that_record_and_reset_leave_sums_that_are_those_of_the_slots() {
        for size in [1, 5, 64, 100, 1000] {
            let ring = Ring::new(size, 1);
            thread::scope(|scope| {
                for thread in 0..4_usize {
                    let ring = &ring;
                    scope.spawn(move || {
                        for round in 0..20_000_usize {
                            let tag = (round / 5000) as u64 + 1;
                            // Only one may reset, as the cell's lock has it.
                            if thread == 0 && round % 5000 == 0 {
                                ring.reset(tag);
                            }
                            ring.record(tag, SAMPLES[(round * 7 + thread) % 4]);
                        }
                    });
                }
            });
            let counts = ring.counts(4);
            let sums = (counts.calls, counts.failed, counts.slow);
            assert_eq!(ring.counted_in_slots(), sums, "size {size}");
            assert!(counts.calls <= u64::from(size));
        }
    }

    #[test]
    fn the_slot_of_a_ticket_is_its_remainder() {
        let last = u64::from(u32::MAX);
        let near = |at: u64| (at.saturating_sub(20_100)..at + 100).step_by(7);
        for size in [1, 2, 3, 7, 8, 64, 99, 100, 101, 8191, 8192, 9999, Ring::MAX] {
            let ring = Ring::new(size, 1);
            for ticket in (0..30_000).chain(near(last)).chain(near(u64::MAX - 100)) {
                assert_eq!(
                    ring.slot_of(ticket),
                    ticket % u64::from(size),
                    "{ticket} of {size}"
                );
            }
        }
    }

    #[test]
    fn a_full_window_of_successes_is_left_untouched_by_one_more() {
        let ring = Ring::new(3, 1);
        for _ in 0..3 {
            assert!(ring.record(1, Sample::SUCCESS).is_some());
        }
        let before = ring.ticket.0.load(Relaxed);
        assert!(ring.record(1, Sample::SUCCESS).is_none());
        assert_eq!(ring.ticket.0.load(Relaxed), before);
        assert!(ring.record(1, Sample::FAILURE).is_some());
    }
}
