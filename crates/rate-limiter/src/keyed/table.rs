//! Many keys in bounded memory: locks over parts of them, and idle ones swept out before it grows.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hashbrown::HashTable;

/// What is kept of a key.
pub(crate) trait State: Sized {
    /// The rules by which it is read. Each shard has its own, under its lock.
    type Rules: Clone;

    /// That of a key never seen.
    fn fresh(rules: &Self::Rules) -> Self;

    /// How many ticks from now on it will equal that of a key never seen; 0 when it does already.
    fn left(&mut self, rules: &Self::Rules, now: u64) -> u64;
}

/// How keys are hashed. An enum, for a handle has no type parameter but its key.
#[derive(Clone)]
pub(crate) enum Hashing {
    /// `SipHash` with a random key: strangers who choose keys cannot make them collide.
    Hostile(RandomState),
    /// Faster, and seeded, but no defence against one who tries.
    Trusted(foldhash::fast::RandomState),
}

impl Hashing {
    #[inline]
    pub(super) fn of<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        match self {
            Self::Hostile(state) => state.hash_one(key),
            Self::Trusted(state) => state.hash_one(key),
        }
    }
}

/// The states of many keys. A key whose state equals that of one never seen need not be kept, so it is
/// dropped whenever room is wanted: nothing is lost by it.
pub(crate) struct Table<K, S: State> {
    shards: Box<[Shard<K, S>]>,
    /// Which bits of a hash choose the shard: its upper ones, for the table uses the lower.
    shift: u32,
    hashing: Hashing,
    /// How many keys a shard may have.
    most: usize,
    forgotten: AtomicU64,
}

/// On a cache line of its own, so that threads with different keys seldom meet.
#[repr(align(64))]
struct Shard<K, S: State> {
    inside: Mutex<Inside<K, S>>,
}

pub(crate) struct Inside<K, S: State> {
    rules: S::Rules,
    entries: HashTable<(K, S)>,
    /// The newest time by which a key of these was judged. One who read the clock before, and came to the
    /// lock after, is judged by this: what flowed in between is not missed by him.
    newest: u64,
}

/// The earliest and the latest that it can be now.
pub(crate) type Between = (u64, u64);

/// What came of a visit, and how many keys had to be forgotten for it that were not idle.
#[derive(Clone, Copy)]
pub(crate) struct Visit<R> {
    pub(crate) result: R,
    pub(crate) forgotten: u64,
}

impl<K: Hash + Eq, S: State> Table<K, S> {
    /// For up to `most` keys, rounded up.
    pub(crate) fn new(rules: &S::Rules, most: usize, hashing: Hashing) -> Self {
        let shards = shards(most);
        let shard = || Shard {
            inside: Mutex::new(Inside {
                rules: rules.clone(),
                entries: HashTable::new(),
                newest: 0,
            }),
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            shift: 64 - shards.trailing_zeros(),
            hashing,
            most: most.div_ceil(shards),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Shows `act` the state of `key`, made if it is not there and `act` leaves something in it, and the time
    /// that it is to be judged by: what `clock` says before the lock is taken, for it is not to be held
    /// longer, or what was seen already. If `act` comes to know more exactly when it is, it leaves that
    /// there.
    #[expect(clippy::inline_always, reason = "see `Judged`")]
    #[inline(always)]
    pub(crate) fn visit<Q, R>(
        &self,
        key: &Q,
        clock: impl FnOnce() -> Between,
        act: impl FnOnce(&S::Rules, &mut S, &mut Between) -> R,
    ) -> Visit<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let at = clock();
        let hash = self.hashing.of(key);
        let mut inside = self.shard(hash);
        let mut at = inside.later(at);
        let Inside {
            rules,
            entries,
            newest,
        } = &mut *inside;
        if let Some((_, state)) = entries.find_mut(hash, |(held, _)| held.borrow() == key) {
            let result = act(rules, state, &mut at);
            *newest = at.0;
            return Visit {
                result,
                forgotten: 0,
            };
        }
        let mut state = S::fresh(rules);
        let result = act(rules, &mut state, &mut at);
        *newest = at.0;
        if state.left(rules, at.0) == 0 {
            return Visit {
                result,
                forgotten: 0,
            };
        }
        let forgotten = self.insert(&mut inside, hash, key.to_owned(), state, at.0);
        Visit { result, forgotten }
    }

    /// Shows `act` the state of `key`, or of one never seen, and when it is; a key never seen is not kept.
    pub(crate) fn peek<Q, R>(
        &self,
        key: &Q,
        now: impl FnOnce() -> u64,
        act: impl FnOnce(&S::Rules, &mut S, u64) -> R,
    ) -> R
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let now = now();
        let hash = self.hashing.of(key);
        let mut inside = self.shard(hash);
        let (now, _) = inside.later((now, now));
        let Inside {
            rules,
            entries,
            newest,
        } = &mut *inside;
        *newest = now;
        match entries.find_mut(hash, |(held, _)| held.borrow() == key) {
            Some((_, state)) => act(rules, state, now),
            None => act(rules, &mut S::fresh(rules), now),
        }
    }

    /// Forgets a key. Whether it was known.
    pub(crate) fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hashing.of(key);
        let mut inside = self.shard(hash);
        let entry = inside
            .entries
            .find_entry(hash, |(held, _)| held.borrow() == key);
        match entry {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Changes rules and states, a shard at a time.
    pub(crate) fn change(
        &self,
        mut change: impl FnMut(&mut S::Rules, &mut dyn Iterator<Item = &mut S>),
    ) {
        for shard in &self.shards {
            let mut inside = lock(shard);
            let Inside { rules, entries, .. } = &mut *inside;
            change(rules, &mut entries.iter_mut().map(|(_, state)| state));
        }
    }

    /// How many keys are held, idle ones that nobody swept out included.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|it| lock(it).entries.len()).sum()
    }

    /// Sweeps out all that are idle, a shard at a time, and gives memory back.
    pub(crate) fn sweep(&self, now: u64) {
        for shard in &self.shards {
            let mut inside = lock(shard);
            inside.sweep(now);
            let hashing = &self.hashing;
            let len = inside.entries.len();
            inside.entries.shrink_to(len, |(key, _)| hashing.of(key));
        }
    }

    /// How many keys were forgotten so far that were not idle.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Relaxed)
    }

    #[cold]
    fn insert(&self, inside: &mut Inside<K, S>, hash: u64, key: K, state: S, now: u64) -> u64 {
        let mut forgotten = 0;
        let len = inside.entries.len();
        if len >= self.most || len == inside.entries.capacity() {
            inside.sweep(now);
            if inside.entries.len() >= self.most {
                forgotten = inside.forget_least(now);
                self.forgotten.fetch_add(forgotten, Relaxed);
            }
            // It grows only when half of it is in use after the sweep: so a sweep of n is paid for by
            // n / 2 insertions at least.
            if inside.entries.len() > inside.entries.capacity() / 2 {
                let room = inside.entries.len().max(8);
                let room = room.min(self.most - inside.entries.len()).max(1);
                let hashing = &self.hashing;
                inside.entries.reserve(room, |(key, _)| hashing.of(key));
            }
        }
        let hashing = &self.hashing;
        let hasher = |(key, _): &(K, S)| hashing.of(key);
        inside.entries.insert_unique(hash, (key, state), hasher);
        forgotten
    }

    #[inline]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Inside<K, S>> {
        let at = usize::try_from(hash >> self.shift).unwrap_or(0);
        // Their number is a power of two.
        lock(&self.shards[at & (self.shards.len() - 1)])
    }
}

impl<K, S: State> Inside<K, S> {
    /// No earlier than what was seen here.
    #[inline]
    const fn later(&self, at: Between) -> Between {
        let earliest = if at.0 < self.newest {
            self.newest
        } else {
            at.0
        };
        let latest = if at.1 < earliest { earliest } else { at.1 };
        (earliest, latest)
    }

    fn sweep(&mut self, now: u64) {
        let rules = &self.rules;
        self.entries.retain(|(_, state)| state.left(rules, now) > 0);
    }

    /// Forgets the eighth that would be idle first: those that owe most, a blocked attacker among
    /// them, stay. Not one by one, so that not every new key has to look at all.
    fn forget_least(&mut self, now: u64) -> u64 {
        let rules = &self.rules;
        let before = self.entries.len();
        let mut left: Vec<u64> = self
            .entries
            .iter_mut()
            .map(|(_, state)| state.left(rules, now))
            .collect();
        let last = (left.len() / 8).min(left.len().saturating_sub(1));
        let (_, &mut limit, _) = left.select_nth_unstable(last);
        let mut room = last + 1;
        self.entries.retain(|(_, state)| {
            let goes = room > 0 && state.left(rules, now) <= limit;
            room -= usize::from(goes);
            !goes
        });
        u64::try_from(before - self.entries.len()).unwrap_or(u64::MAX)
    }
}

/// A shard of some ten thousand keys is swept in a tenth of a millisecond. More of them than threads
/// need to keep out of each other's way would be as many cache lines more that a decision may miss.
fn shards(most: usize) -> usize {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let fewest = (threads * 4).min(most / 1024).clamp(16, 4096);
    let fewest = fewest.next_power_of_two();
    (most / 16_384).next_power_of_two().clamp(fewest, 4096)
}

fn lock<K, S: State>(shard: &Shard<K, S>) -> MutexGuard<'_, Inside<K, S>> {
    shard.inside.lock().unwrap_or_else(PoisonError::into_inner)
}
