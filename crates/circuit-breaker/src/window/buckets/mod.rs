//! The last while, in buckets of time.
//!
//! Each counter carries the bucket of time that it counts and the tag of the generation, so no
//! bucket has to be cleared when its time is over: a counter of another time is zero.
//!
//! Each thread counts in a stripe of its own, which nobody else writes but a reset, so closed and
//! clean it takes a load and a store, and no line goes from one processor to another. Threads
//! beyond the numbered ones share one stripe.

mod stripe;

use std::{sync::OnceLock, time::Duration};

use buttress_core::Moment;

use self::stripe::{Stripe, in_time};
use super::Line;
use crate::{
    cell::sync::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
        fence,
    },
    lane::{LANES, lane},
    machine::{Counts, Limits, Sample},
};

#[derive(Debug)]
pub(crate) struct Buckets {
    nanos_a_bucket: u64,
    length: usize,
    /// One for each thread, made when it first counts here; the last is that of all the others.
    /// Boxed, for all breakers have room for a window, and most have another.
    stripes: Box<[OnceLock<Box<Stripe>>]>,
    seen: Line<Seen>,
}

/// What spares a success the sum. Written seldom, read by all.
#[derive(Debug, Default)]
struct Seen {
    /// The number of the last bucket in which something was no fast success; 0 for none.
    last_bad: AtomicU64,
    /// The number of the bucket in which a success was last judged with enough calls.
    judged: AtomicU64,
}

/// A success was counted in a bucket of this number, and the counts must be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unjudged(u64);

impl Buckets {
    /// The shortest time of one bucket.
    pub(crate) const SHORTEST: Duration = Duration::from_millis(10);

    pub(crate) fn new(duration: Duration, count: u32) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let nanos_a_bucket = nanos.div_ceil(u64::from(count).max(1)).max(1);
        let length = usize::try_from(count.max(1)).unwrap_or(1);
        Self::of(nanos_a_bucket, length)
    }

    fn of(nanos_a_bucket: u64, length: usize) -> Self {
        let window = Self {
            nanos_a_bucket,
            length,
            stripes: (0..=LANES).map(|_| OnceLock::new()).collect(),
            seen: Line(Seen::default()),
        };
        // Loom does not see this lock, and would take the counters behind it for one thread's.
        #[cfg(buttress_loom)]
        for lane in [0, 1] {
            window.stripe(lane, 1);
        }
        window
    }

    /// Another one of the same shape, empty.
    pub(crate) fn renewed(&self) -> Self {
        Self::of(self.nanos_a_bucket, self.length)
    }

    /// The number of the bucket of this moment. The first is never 0, and an empty counter is of
    /// number 0: it is out of date from the start.
    const fn epoch(&self, now: Moment) -> u64 {
        now.as_nanos() / self.nanos_a_bucket + self.length as u64
    }

    /// Counts a call in this thread's stripe; the number of the bucket, unless it came late.
    #[inline]
    fn call(&self, tag: u64, now: Moment) -> Option<u64> {
        if let Some(lane) = lane()
            && let Some(stripe) = self.stripes.get(lane).and_then(OnceLock::get)
            && let Some(epoch) = stripe.call_in_same_bucket(tag, now)
        {
            return Some(epoch);
        }
        self.call_anywhere(tag, now)
    }

    #[cold]
    fn call_anywhere(&self, tag: u64, now: Moment) -> Option<u64> {
        let epoch = self.epoch(now);
        let begins = (epoch - self.length as u64).saturating_mul(self.nanos_a_bucket);
        let ends = begins.saturating_add(self.nanos_a_bucket);
        let (stripe, own) = self.mine(tag);
        stripe.call(own, tag, epoch, ends).then_some(epoch)
    }

    /// This thread's stripe, and whether it is its own.
    fn mine(&self, tag: u64) -> (&Stripe, bool) {
        let at = lane().unwrap_or(LANES);
        (self.stripe(at, tag), at < LANES)
    }

    pub(crate) fn stripe(&self, at: usize, tag: u64) -> &Stripe {
        self.stripes[at].get_or_init(|| Box::new(Stripe::new(self.length, tag)))
    }

    /// Takes a result that nobody judges.
    pub(crate) fn count(&self, tag: u64, sample: Sample, now: Moment) {
        if let Some(epoch) = self.call(tag, now)
            && sample != Sample::SUCCESS
        {
            let (stripe, own) = self.mine(tag);
            stripe.kinds(own, tag, epoch, sample);
        }
    }

    /// Takes a success, where nobody asks for the counts. Where they must be judged it says so.
    #[inline]
    pub(crate) fn take_success(&self, tag: u64, now: Moment) -> Option<Unjudged> {
        let epoch = self.call(tag, now)?;
        // A success raises a rate only by completing the minimum, or because a bucket went out of
        // date: at most one of them in each bucket of time has something to find.
        let since = epoch.saturating_sub(self.seen.0.last_bad.load(Relaxed));
        if since >= self.length as u64 || self.seen.0.judged.load(Relaxed) == epoch {
            return None;
        }
        Some(Unjudged(epoch))
    }

    /// The counts after such a success.
    pub(crate) fn counts_after(
        &self,
        tag: u64,
        Unjudged(epoch): Unjudged,
        limits: impl FnOnce() -> Limits,
    ) -> Counts {
        let counts = self.sum(tag, epoch);
        if limits().enough(&counts) {
            self.seen.0.judged.store(epoch, Relaxed);
        }
        counts
    }

    pub(crate) fn record(
        &self,
        tag: u64,
        sample: Sample,
        now: Moment,
        limits: impl FnOnce() -> Limits,
        always: bool,
    ) -> Option<Counts> {
        if sample == Sample::SUCCESS && !always {
            let unjudged = self.take_success(tag, now)?;
            return Some(self.counts_after(tag, unjudged, limits));
        }
        let epoch = self.call(tag, now)?;
        if sample != Sample::SUCCESS {
            let (stripe, own) = self.mine(tag);
            stripe.kinds(own, tag, epoch, sample);
            let Seen { last_bad, judged } = &self.seen.0;
            // Read before they are written: when much fails, all threads come by here.
            if last_bad.load(Relaxed) < epoch {
                last_bad.fetch_max(epoch, Relaxed);
            }
            if judged.load(Relaxed) != 0 {
                judged.store(0, Relaxed);
            }
        }
        Some(self.sum(tag, epoch))
    }

    pub(crate) fn counts(&self, tag: u64, now: Moment) -> Counts {
        self.sum(tag, self.epoch(now))
    }

    /// What all stripes hold together.
    fn sum(&self, tag: u64, epoch: u64) -> Counts {
        // Of two threads that have each written their result and now add up, one sees both.
        fence(SeqCst);
        let mut counts = Counts::default();
        for stripe in self.stripes.iter().filter_map(OnceLock::get) {
            stripe.add_to(&mut counts, |word| in_time(word, tag, epoch, self.length));
        }
        counts
    }

    pub(crate) fn reset(&self, tag: u64) {
        for stripe in self.stripes.iter().filter_map(OnceLock::get) {
            stripe.reset(tag);
        }
        self.seen.0.last_bad.store(0, SeqCst);
        self.seen.0.judged.store(0, SeqCst);
    }
}
