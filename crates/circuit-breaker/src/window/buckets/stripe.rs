//! What one thread has counted.

use buttress_core::Moment;

use crate::{
    cell::sync::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    machine::{Counts, Sample},
};

/// Bits of a count: a billion calls in one bucket, at which it stays.
const COUNT_BITS: u64 = 30;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Bits of the bucket's number. It comes again after 67 million buckets: 7 days of the shortest.
const EPOCH_BITS: u64 = 26;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;
const TAG: u64 = COUNT_BITS + EPOCH_BITS;
const TAG_MASK: u64 = 0xff;

/// Counters of `[tag 8 | bucket's number 26 | count 30]`, a row of them for each kind.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Stripe {
    /// The bucket in which its owner counted last: when it ends, its number, and the upper bits of
    /// its counter. Only the owner uses these; the stripe of many threads does not.
    ends: AtomicU64,
    epoch: AtomicU64,
    head: AtomicU64,
    at: AtomicU64,
    calls: Box<[AtomicU64]>,
    failed: Box<[AtomicU64]>,
    /// Whether anything was ever counted in the rows below: they are seldom used, and then need
    /// not be added up.
    unusual: AtomicU64,
    slow: Box<[AtomicU64]>,
    slow_failed: Box<[AtomicU64]>,
    abandoned: Box<[AtomicU64]>,
}

impl Stripe {
    pub(super) fn new(length: usize, tag: u64) -> Self {
        let row = || (0..length).map(|_| AtomicU64::new(tag << TAG)).collect();
        Self {
            ends: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            head: AtomicU64::new(0),
            at: AtomicU64::new(0),
            calls: row(),
            failed: row(),
            unusual: AtomicU64::new(0),
            slow: row(),
            slow_failed: row(),
            abandoned: row(),
        }
    }

    /// Counts a call of its owner, if that is in the bucket in which it counted last.
    #[inline]
    pub(super) fn call_in_same_bucket(&self, tag: u64, now: Moment) -> Option<u64> {
        let head = self.head.load(Relaxed);
        if now.as_nanos() >= self.ends.load(Relaxed) || head >> EPOCH_BITS != tag {
            return None;
        }
        let counter = self
            .calls
            .get(usize::try_from(self.at.load(Relaxed)).ok()?)?;
        let seen = counter.load(Relaxed);
        // A reset may have been here, and then it is of another generation.
        if seen >> COUNT_BITS != head || seen & COUNT_MASK == COUNT_MASK {
            return None;
        }
        counter.store(seen + 1, Release);
        Some(self.epoch.load(Relaxed))
    }

    /// Counts a call in the bucket of this number. False when it came late.
    pub(super) fn call(&self, own: bool, tag: u64, epoch: u64, ends: u64) -> bool {
        let at = epoch % self.calls.len() as u64;
        if own {
            self.ends.store(ends, Relaxed);
            self.epoch.store(epoch, Relaxed);
            self.head
                .store(tag << EPOCH_BITS | epoch & EPOCH_MASK, Relaxed);
            self.at.store(at, Relaxed);
        }
        bump(&self.calls, own, tag, epoch)
    }

    /// What else the call was. After the call itself, and read the other way round: so no rate is
    /// ever seen too high.
    #[cold]
    pub(super) fn kinds(&self, own: bool, tag: u64, epoch: u64, sample: Sample) {
        if sample != Sample::FAILURE {
            self.unusual.store(1, Relaxed);
        }
        for (row, counts) in [
            (&self.failed, sample.is_failed()),
            (&self.slow, sample.is_slow()),
            (&self.slow_failed, sample.is_failed() && sample.is_slow()),
            (&self.abandoned, sample.is_abandoned()),
        ] {
            if counts {
                bump(row, own, tag, epoch);
            }
        }
    }

    pub(super) fn add_to(&self, counts: &mut Counts, value: impl Fn(u64) -> u64) {
        let sum = |row: &[AtomicU64]| row.iter().map(|it| value(it.load(Acquire))).sum::<u64>();
        counts.failed += sum(&self.failed);
        if self.unusual.load(Relaxed) != 0 {
            counts.slow += sum(&self.slow);
            counts.slow_failed += sum(&self.slow_failed);
            counts.abandoned += sum(&self.abandoned);
        }
        counts.calls += sum(&self.calls);
    }

    /// Its owner may write over it at the same moment: what is then left is of the generation
    /// before, and counts as nothing. Nothing of that age is left when tags begin anew.
    pub(super) fn reset(&self, tag: u64) {
        for row in [
            &self.calls,
            &self.failed,
            &self.slow,
            &self.slow_failed,
            &self.abandoned,
        ] {
            for counter in row {
                counter.swap(tag << TAG, AcqRel);
            }
        }
    }
}

/// The count of a counter, if it is of this generation and of the window that ends in this bucket.
pub(super) const fn in_time(word: u64, tag: u64, epoch: u64, length: usize) -> u64 {
    let age = (epoch & EPOCH_MASK).wrapping_sub(epoch_of(word)) & EPOCH_MASK;
    let length = length as u64;
    // One ahead is of a thread that read the clock later: it is lately too, and of two failures at
    // once on both sides of a bucket's end, one must see both.
    let is_near = age < length || EPOCH_MASK + 1 - age < length;
    if word >> TAG == tag && is_near {
        word & COUNT_MASK
    } else {
        0
    }
}

const fn epoch_of(word: u64) -> u64 {
    word >> COUNT_BITS & EPOCH_MASK
}

/// The counter with one more, unless it is of a later generation or already of a later time.
const fn next(seen: u64, tag: u64, epoch: u64) -> Option<u64> {
    let epoch = epoch & EPOCH_MASK;
    let begun = tag << TAG | epoch << COUNT_BITS | 1;
    // Half of the tags and numbers lie ahead, half behind.
    match tag.wrapping_sub(seen >> TAG) & TAG_MASK {
        0 => {}
        1..128 => return Some(begun),
        _ => return None,
    }
    if epoch_of(seen) != epoch {
        let ahead = epoch_of(seen).wrapping_sub(epoch) & EPOCH_MASK;
        let is_later = seen & COUNT_MASK > 0 && ahead < 1 << (EPOCH_BITS - 1);
        return if is_later { None } else { Some(begun) };
    }
    if seen & COUNT_MASK == COUNT_MASK {
        return Some(seen);
    }
    Some(seen + 1)
}

fn bump(row: &[AtomicU64], own: bool, tag: u64, epoch: u64) -> bool {
    let at = usize::try_from(epoch % (row.len() as u64).max(1));
    let Some(counter) = at.ok().and_then(|at| row.get(at)) else {
        return false;
    };
    if own {
        let next = next(counter.load(Relaxed), tag, epoch);
        return next.map(|it| counter.store(it, Release)).is_some();
    }
    counter
        .fetch_update(AcqRel, Relaxed, |seen| next(seen, tag, epoch))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_goes_on_begins_anew_or_stays() {
        let word = |tag: u64, epoch: u64, count: u64| tag << TAG | epoch << COUNT_BITS | count;
        for (seen, tag, epoch, after) in [
            (word(1, 0, 0), 1, 10, Some(word(1, 10, 1))),
            (word(1, 10, 1), 1, 10, Some(word(1, 10, 2))),
            (word(1, 10, 2), 1, 20, Some(word(1, 20, 1))),
            (word(1, 20, 2), 1, 10, None),
            (word(1, 20, 2), 2, 10, Some(word(2, 10, 1))),
            (word(2, 20, 2), 1, 20, None),
            (word(255, 20, 2), 0, 20, Some(word(0, 20, 1))),
            (word(0, 20, 2), 255, 20, None),
            (
                word(1, 10, COUNT_MASK),
                1,
                10,
                Some(word(1, 10, COUNT_MASK)),
            ),
        ] {
            assert_eq!(next(seen, tag, epoch), after, "{seen:x} {tag} {epoch}");
        }
    }
}
