//! The last while, in buckets of time.
//!
//! Each counter carries the bucket of time that it counts and the tag of the generation, so no
//! bucket has to be cleared when its time is over: a counter of another time is zero.

use std::time::Duration;

use buttress_core::Moment;

use crate::{
    cell::sync::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    machine::{Counts, Limits, Sample},
};

/// Bits of a count: a billion calls in one bucket, at which it stays.
const COUNT_BITS: u64 = 30;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Bits of the bucket's number. It comes again after 67 million buckets: 7 days of the shortest.
const EPOCH_BITS: u64 = 26;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;
const TAG: u64 = COUNT_BITS + EPOCH_BITS;

#[derive(Debug)]
pub(crate) struct Buckets {
    nanos_a_bucket: u64,
    buckets: Box<[Bucket]>,
    /// The number of the last bucket in which something was no fast success; 0 for none.
    last_bad: AtomicU64,
    /// The number of the bucket in which a success was last judged with enough calls.
    judged: AtomicU64,
}

#[derive(Debug)]
#[repr(align(128))]
struct Bucket {
    calls: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
    slow_failed: AtomicU64,
    abandoned: AtomicU64,
}

impl Buckets {
    /// The shortest time of one bucket.
    pub(crate) const SHORTEST: Duration = Duration::from_millis(10);

    pub(crate) fn new(duration: Duration, count: u32, tag: u64) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let window = Self {
            nanos_a_bucket: nanos.div_ceil(u64::from(count).max(1)).max(1),
            buckets: (0..count.max(1)).map(|_| Bucket::new()).collect(),
            last_bad: AtomicU64::new(0),
            judged: AtomicU64::new(0),
        };
        window.reset(tag);
        window
    }

    /// Another one of the same shape, empty.
    pub(crate) fn renewed(&self, tag: u64) -> Self {
        let buckets = (0..self.buckets.len()).map(|_| Bucket::new()).collect();
        let window = Self {
            nanos_a_bucket: self.nanos_a_bucket,
            buckets,
            last_bad: AtomicU64::new(0),
            judged: AtomicU64::new(0),
        };
        window.reset(tag);
        window
    }

    fn length(&self) -> u64 {
        self.buckets.len() as u64
    }

    /// Takes a result that nobody judges.
    pub(crate) fn count(&self, tag: u64, sample: Sample, now: Moment) {
        let epoch = self.epoch(now);
        if let Some(bucket) = self.bucket(epoch)
            && bump(&bucket.calls, tag, epoch)
            && sample != Sample::SUCCESS
        {
            bucket.bump_kind(tag, epoch, sample);
        }
    }

    fn bucket(&self, epoch: u64) -> Option<&Bucket> {
        self.buckets
            .get(usize::try_from(epoch % self.length()).ok()?)
    }

    /// The number of the bucket of this moment. The first is never 0, and an empty counter is of
    /// number 0: it is out of date from the start.
    const fn epoch(&self, now: Moment) -> u64 {
        now.as_nanos() / self.nanos_a_bucket + self.buckets.len() as u64
    }

    pub(crate) fn record(
        &self,
        tag: u64,
        sample: Sample,
        now: Moment,
        limits: impl FnOnce() -> Limits,
        always: bool,
    ) -> Option<Counts> {
        let epoch = self.epoch(now);
        let bucket = self.bucket(epoch)?;
        // The call before its kind, and read the other way round: no rate is ever seen too high.
        if !bump(&bucket.calls, tag, epoch) {
            return None;
        }
        if sample != Sample::SUCCESS {
            bucket.bump_kind(tag, epoch, sample);
            self.last_bad.fetch_max(epoch, SeqCst);
            self.judged.store(0, SeqCst);
            return Some(self.sum(tag, epoch));
        }
        if always {
            return Some(self.sum(tag, epoch));
        }
        // A success raises a rate only by completing the minimum, or because a bucket went out of
        // date: at most one of them in each bucket of time has something to find.
        let clean = epoch.saturating_sub(self.last_bad.load(Relaxed)) >= self.length();
        if clean || self.judged.load(Relaxed) == epoch {
            return None;
        }
        let counts = self.sum(tag, epoch);
        if limits().enough(&counts) {
            self.judged.store(epoch, Relaxed);
        }
        Some(counts)
    }

    pub(crate) fn counts(&self, tag: u64, now: Moment) -> Counts {
        self.sum(tag, self.epoch(now))
    }

    fn sum(&self, tag: u64, epoch: u64) -> Counts {
        let mut counts = Counts::default();
        for bucket in &self.buckets {
            let read = |counter: &AtomicU64| {
                let word = counter.load(SeqCst);
                let age = (epoch & EPOCH_MASK).wrapping_sub(epoch_of(word)) & EPOCH_MASK;
                // One ahead is of a thread that read the clock later: it is lately too, and of two
                // failures at once on both sides of a bucket's end, one must see both.
                let is_near = age < self.length() || (EPOCH_MASK + 1 - age) < self.length();
                let counts = word >> TAG == tag && is_near;
                if counts { word & COUNT_MASK } else { 0 }
            };
            counts.failed += read(&bucket.failed);
            counts.slow += read(&bucket.slow);
            counts.slow_failed += read(&bucket.slow_failed);
            counts.abandoned += read(&bucket.abandoned);
            counts.calls += read(&bucket.calls);
        }
        counts
    }

    pub(crate) fn reset(&self, tag: u64) {
        for bucket in &self.buckets {
            for counter in bucket.all() {
                counter.swap(tag << TAG, SeqCst);
            }
        }
        self.last_bad.store(0, SeqCst);
        self.judged.store(0, SeqCst);
    }
}

impl Bucket {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            calls: zero(),
            failed: zero(),
            slow: zero(),
            slow_failed: zero(),
            abandoned: zero(),
        }
    }

    const fn all(&self) -> [&AtomicU64; 5] {
        [
            &self.calls,
            &self.failed,
            &self.slow,
            &self.slow_failed,
            &self.abandoned,
        ]
    }

    #[cold]
    fn bump_kind(&self, tag: u64, epoch: u64, sample: Sample) {
        for (counter, counts) in [
            (&self.failed, sample.is_failed()),
            (&self.slow, sample.is_slow()),
            (&self.slow_failed, sample.is_failed() && sample.is_slow()),
            (&self.abandoned, sample.is_abandoned()),
        ] {
            if counts {
                bump(counter, tag, epoch);
            }
        }
    }
}

const fn epoch_of(word: u64) -> u64 {
    word >> COUNT_BITS & EPOCH_MASK
}

/// Counts one, unless the counter is of another generation or already of a later time.
fn bump(counter: &AtomicU64, tag: u64, epoch: u64) -> bool {
    let epoch = epoch & EPOCH_MASK;
    let mut seen = counter.load(Relaxed);
    loop {
        if seen >> TAG != tag {
            return false;
        }
        let new = if epoch_of(seen) != epoch {
            // Half of the numbers lie ahead, half behind.
            let ahead = epoch_of(seen).wrapping_sub(epoch) & EPOCH_MASK;
            if seen & COUNT_MASK > 0 && ahead < 1 << (EPOCH_BITS - 1) {
                return false;
            }
            tag << TAG | epoch << COUNT_BITS | 1
        } else if seen & COUNT_MASK == COUNT_MASK {
            return true;
        } else {
            seen + 1
        };
        match counter.compare_exchange_weak(seen, new, SeqCst, Relaxed) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
}
