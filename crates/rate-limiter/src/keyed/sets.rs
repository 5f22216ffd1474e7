//! Many keys in memory of a fixed size: a set of four places for each, and no lock for a key that
//! has one.
//!
//! A place is a tag, which is the key's hash, and the word of its bucket. Who decides reads the word,
//! then sees that the tag is still the key's, and swaps the word. Who takes a place from an idle key
//! clears the tag, swaps the word, then writes his tag: so a call that had found the old key there
//! either swaps first, and is seen, or fails to swap and looks again.

use std::{
    hash::Hash,
    sync::{Arc, PoisonError},
};

use super::{
    state::Word,
    table::{Between, Hashing, State as _, Visit},
};
use crate::{
    cell::sync::{AtomicU64, Mutex, MutexGuard, Ordering},
    machine::Bucket,
};

/// Places of a set: as many as a cache line has room for.
const WAYS: usize = 4;
/// No tag is 0: that is an empty place.
const TAKEN: u64 = 1 << 63;
const EMPTY: u64 = 0;
/// Newcomers take turns, each set's by one of these.
const TURNS: usize = 64;

#[derive(Default)]
#[repr(align(64))]
struct Set {
    tags: [AtomicU64; WAYS],
    words: [AtomicU64; WAYS],
}

/// One bucket for each of many keys, of which only the hash is kept.
pub(super) struct Sets {
    sets: Box<[Set]>,
    turns: Box<[Mutex<()>]>,
    bucket: Arc<Bucket>,
    hashing: Hashing,
    forgotten: AtomicU64,
}

/// Where a newcomer was put.
enum Admitted<R> {
    /// Somebody has put the same key there meanwhile, or has changed the place: look again.
    Again,
    At(Visit<R>),
}

impl Sets {
    /// Twice as many places as `keys`, and rounded up: half full, it forgets next to nothing.
    pub(super) fn new(bucket: Arc<Bucket>, keys: usize, hashing: Hashing) -> Self {
        let sets = (keys * 2).div_ceil(WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            turns: (0..sets.min(TURNS)).map(|_| Mutex::new(())).collect(),
            bucket,
            hashing,
            forgotten: AtomicU64::new(0),
        }
    }

    /// Shows `act` the word of `key`, made if it is not there and `act` leaves something in it, and when it
    /// is: `clock` is asked after the word was looked at, and again when another call came between, as
    /// `act` is. So it is no earlier than any time that the word was written by.
    #[expect(clippy::inline_always, reason = "see `Judged`")]
    #[inline(always)]
    pub(super) fn visit<Q: Hash + ?Sized, R>(
        &self,
        key: &Q,
        clock: impl Fn() -> Between,
        act: impl Fn(&Arc<Bucket>, &mut Word, &mut Between) -> R,
    ) -> Visit<R> {
        self.visit_hash(self.hashing.of(key), clock, act)
    }

    #[expect(clippy::inline_always, reason = "see `Judged`")]
    #[inline(always)]
    fn visit_hash<R>(
        &self,
        hash: u64,
        clock: impl Fn() -> Between,
        act: impl Fn(&Arc<Bucket>, &mut Word, &mut Between) -> R,
    ) -> Visit<R> {
        let timed = |bucket: &Arc<Bucket>, word: &mut Word| {
            let mut at = clock();
            let result = act(bucket, word, &mut at);
            (result, at.0)
        };
        loop {
            if let Some((result, _)) = self.act(hash, &timed) {
                return Visit {
                    result,
                    forgotten: 0,
                };
            }
            let mut word = Word::fresh(&self.bucket);
            let (result, now) = timed(&self.bucket, &mut word);
            if word.left(&self.bucket, now) == 0 {
                return Visit {
                    result,
                    forgotten: 0,
                };
            }
            if let Admitted::At(visit) = self.admit(hash, now, word, result) {
                return visit;
            }
        }
    }

    /// Shows `act` the word of `key`, or that of one never seen, which is not kept.
    pub(super) fn peek<Q: Hash + ?Sized, R>(
        &self,
        key: &Q,
        now: impl Fn() -> u64,
        act: impl Fn(&Arc<Bucket>, &mut Word, u64) -> R,
    ) -> R {
        let hash = self.hashing.of(key);
        let timed = |bucket: &Arc<Bucket>, word: &mut Word| act(bucket, word, now());
        self.act(hash, &timed)
            .unwrap_or_else(|| timed(&self.bucket, &mut Word::fresh(&self.bucket)))
    }

    /// Forgets a key. Whether it was known.
    pub(super) fn remove<Q: Hash + ?Sized>(&self, key: &Q) -> bool {
        let hash = self.hashing.of(key);
        let (set, _turn) = self.turn(hash);
        let Some(way) = set.find(hash | TAKEN) else {
            return false;
        };
        set.tags[way].store(EMPTY, Ordering::SeqCst);
        set.words[way].swap(0, Ordering::AcqRel);
        true
    }

    /// How many keys are held, idle ones included.
    pub(super) fn len(&self) -> usize {
        self.tags()
            .filter(|tag| tag.load(Ordering::Relaxed) != EMPTY)
            .count()
    }

    /// Lets all go that are idle.
    pub(super) fn sweep(&self, now: u64) {
        for index in 0..self.sets.len() {
            let (set, _turn) = self.turn(index as u64);
            for way in 0..WAYS {
                let tag = set.tags[way].load(Ordering::Relaxed);
                let word = set.words[way].load(Ordering::Acquire);
                if tag != EMPTY && Word(word).left(&self.bucket, now) == 0 {
                    let _left = set.hand_over(way, tag, word, EMPTY, 0);
                }
            }
        }
    }

    /// How many keys were forgotten so far that were not idle.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// `None` when the key has no place.
    #[inline]
    fn act<R>(&self, hash: u64, act: &impl Fn(&Arc<Bucket>, &mut Word) -> R) -> Option<R> {
        let set = &self.sets[self.index(hash)];
        let tag = hash | TAKEN;
        loop {
            let way = set.find(tag)?;
            let held = set.words[way].load(Ordering::Acquire);
            if set.tags[way].load(Ordering::Acquire) != tag {
                continue;
            }
            let mut word = Word(held);
            let result = act(&self.bucket, &mut word);
            if word.0 == held || set.swap(way, held, word.0) {
                return Some(result);
            }
        }
    }

    /// Gives a newcomer with `word` the place that is empty, or idle, or owes least.
    #[cold]
    #[inline(never)]
    fn admit<R>(&self, hash: u64, now: u64, mut word: Word, result: R) -> Admitted<R> {
        let (set, _turn) = self.turn(hash);
        let tag = hash | TAKEN;
        if set.find(tag).is_some() {
            return Admitted::Again;
        }
        let (way, held) = set.least();
        let before = set.tags[way].load(Ordering::Relaxed);
        let busy = before != EMPTY && Word(held).left(&self.bucket, now) > 0;
        // By this a call that had found the other key here sees that the place is another's.
        word.0 += u64::from(word.0 == held);
        if !set.hand_over(way, before, held, tag, word.0) {
            return Admitted::Again;
        }
        let forgotten = u64::from(busy);
        if busy {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        Admitted::At(Visit { result, forgotten })
    }

    fn tags(&self) -> impl Iterator<Item = &AtomicU64> {
        self.sets.iter().flat_map(|set| &set.tags)
    }

    #[inline]
    fn index(&self, hash: u64) -> usize {
        // Their number is a power of two, and what is cut off of the hash is above it.
        #[expect(clippy::cast_possible_truncation, reason = "the mask is smaller")]
        let low = hash as usize;
        low & (self.sets.len() - 1)
    }

    /// The set of a hash, and the turn to change whose its places are.
    fn turn(&self, hash: u64) -> (&Set, MutexGuard<'_, ()>) {
        let index = self.index(hash);
        let turn = self.turns[index & (self.turns.len() - 1)].lock();
        (
            &self.sets[index],
            turn.unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Set {
    #[inline]
    fn find(&self, tag: u64) -> Option<usize> {
        let is_here = |held: &AtomicU64| held.load(Ordering::Acquire) == tag;
        self.tags.iter().position(is_here)
    }

    #[inline]
    fn swap(&self, way: usize, held: u64, word: u64) -> bool {
        let (done, not) = (Ordering::AcqRel, Ordering::Relaxed);
        self.words[way]
            .compare_exchange(held, word, done, not)
            .is_ok()
    }

    /// The place that owes least, by its word: an empty one is written 0 when it becomes so.
    fn least(&self) -> (usize, u64) {
        let mut least = (0, u64::MAX);
        for (way, word) in self.words.iter().enumerate() {
            let word = word.load(Ordering::Acquire);
            if word < least.1 {
                least = (way, word);
            }
        }
        least
    }

    /// From one key to another, or to none, in one's turn. Not if a call for the old one was quicker:
    /// then it stays.
    fn hand_over(&self, way: usize, old: u64, held: u64, new: u64, word: u64) -> bool {
        self.tags[way].store(EMPTY, Ordering::SeqCst);
        let swapped = self.swap(way, held, word);
        let tag = if swapped { new } else { old };
        self.tags[way].store(tag, Ordering::Release);
        swapped
    }
}

/// Loom looks at all orders in which a place can change hands.
#[cfg(all(test, buttress_loom))]
mod orders {
    use loom::{sync::Arc as Shared, thread};

    use super::{super::state::Limited as _, *};
    use crate::{Bandwidth, Quota, cell::loom::explore, machine::Plan};

    const SECOND: u64 = 1_000_000_000;

    /// One set, a permit a second for each key.
    fn sets() -> Sets {
        let quota = Quota::new(Bandwidth::per_second(1)).unwrap();
        let plan = Plan::in_process(&quota).unwrap();
        let hashing = Hashing::Trusted(foldhash::fast::RandomState::default());
        Sets::new(Arc::new(*plan.single_bucket().unwrap()), 1, hashing)
    }

    fn takes(sets: &Sets, hash: u64, now: u64) -> bool {
        let take =
            |bucket: &Arc<Bucket>, word: &mut Word, at: &mut Between| word.take(bucket, at.0, 1);
        let visit = sets.visit_hash(hash, || (now, now), take);
        visit.result.allowed
    }

    #[test]
    fn loom_a_new_key_that_two_ask_for_has_one_place() {
        explore("a new key", || {
            let sets = Shared::new(sets());
            let other = Shared::clone(&sets);
            let there = thread::spawn(move || takes(&other, 7, SECOND));
            let here = takes(&sets, 7, SECOND);
            assert!(here ^ there.join().unwrap());
            assert_eq!(sets.len(), 1);
        });
    }

    #[test]
    fn loom_a_place_that_changes_hands_is_charged_to_one_key_at_a_time() {
        explore("a place changes hands", || {
            let sets = Shared::new(sets());
            assert!(takes(&sets, 1, SECOND));
            let busy = |bucket: &Arc<Bucket>, word: &mut Word, at: &mut Between| {
                word.force(bucket, at.0, 9)
            };
            for key in 2..=4 {
                let _held = sets.visit_hash(key, || (SECOND, SECOND), busy);
            }
            // The first key is idle by now, and a fifth takes its place while it is asked for.
            let now = 3 * SECOND;
            let other = Shared::clone(&sets);
            let there = thread::spawn(move || takes(&other, 5, now));
            assert!(takes(&sets, 1, now), "it was idle");
            assert!(there.join().unwrap(), "it is new");
            let forgotten = sets.forgotten();
            let again = u64::from(takes(&sets, 5, now)) + u64::from(takes(&sets, 1, now));
            assert!(again <= sets.forgotten().max(forgotten), "{again}");
        });
    }
}
