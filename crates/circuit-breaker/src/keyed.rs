//! A breaker for each key: a host, a tenant.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use buttress_core::{Registered, Registry};

use crate::{CircuitBreaker, CircuitBreakerBuilder, PolicyError, State};

/// Locks over the keys, so that threads with different keys seldom meet.
const SHARDS: usize = 16;

/// A breaker for each key, made at its first use, all with one policy. Bounded: when as many keys
/// are known as it may hold, those are forgotten that have not been asked for longest, are closed,
/// and are held by nobody. One that is not closed is never forgotten.
///
/// Where all that are known are open, a new key gets a breaker that is not kept: its calls are
/// made, and not remembered. [`CircuitBreakers::overflowed`] counts them.
///
/// Cheap to clone; clones share the breakers. Looking up a key that is known takes a lock for a
/// moment and copies nothing but a handle.
///
/// ```
/// use buttress_circuit_breaker::{CircuitBreaker, CircuitBreakers};
///
/// let hosts = CircuitBreakers::new(CircuitBreaker::builder("hosts"), 10_000)?;
/// let breaker = hosts.get("api.example.com")?;
/// assert!(breaker.try_acquire().is_ok());
/// # Ok::<(), buttress_circuit_breaker::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct CircuitBreakers {
    family: Arc<Family>,
}

struct Family {
    template: CircuitBreakerBuilder,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// How many each shard may hold.
    capacity: usize,
    overflowed: AtomicU64,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Arc<str>, Entry>,
    /// Counts the lookups: the age of an entry is told by it, so none reads a clock.
    lookups: u64,
}

struct Entry {
    breaker: CircuitBreaker,
    used: u64,
}

impl CircuitBreakers {
    /// The longest key, in bytes.
    pub const MAX_KEY: usize = 255;

    /// Breakers as `template` makes them, at most `capacity` of them, from 1 to 10,000,000; it is
    /// rounded up to a multiple of 16. The template's name is that of all of them, in rejections
    /// and metrics; events carry the key. Its registry lists the family as one entry. What it
    /// restores is left out.
    ///
    /// # Errors
    ///
    /// Outside of that range.
    pub fn new(template: CircuitBreakerBuilder, capacity: usize) -> Result<Self, PolicyError> {
        if !(1..=10_000_000).contains(&capacity) {
            return Err(PolicyError::new("capacity", "from 1 to 10000000"));
        }
        let (template, registry) = template.into_template();
        let family = Arc::new(Family {
            template,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            capacity: capacity.div_ceil(SHARDS),
            overflowed: AtomicU64::new(0),
        });
        if let Some(registry) = registry {
            add(&registry, &family);
        }
        Ok(Self { family })
    }

    /// The breaker of this key.
    ///
    /// # Errors
    ///
    /// When the key is longer than [`CircuitBreakers::MAX_KEY`].
    pub fn get(&self, key: &str) -> Result<CircuitBreaker, PolicyError> {
        if key.len() > Self::MAX_KEY {
            return Err(PolicyError::new("key", "at most 255 bytes"));
        }
        let family = &self.family;
        let hash = family.hasher.hash_one(key);
        let at = usize::try_from(hash >> 60).unwrap_or(0) % SHARDS;
        let mut shard = lock(&family.shards[at]);
        shard.lookups += 1;
        let now = shard.lookups;
        if let Some(entry) = shard.entries.get_mut(key) {
            entry.used = now;
            return Ok(entry.breaker.clone());
        }
        let key: Arc<str> = key.into();
        let breaker = family.template.clone().build_keyed(Some(Arc::clone(&key)));
        if shard.entries.len() >= family.capacity {
            shard.forget();
        }
        if shard.entries.len() >= family.capacity {
            family.overflowed.fetch_add(1, Relaxed);
        } else {
            let entry = Entry {
                breaker: breaker.clone(),
                used: now,
            };
            shard.entries.insert(key, entry);
        }
        Ok(breaker)
    }

    /// How many keys are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.family.len()
    }

    /// Whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a new key found no place, because all that were known were open or in use.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.family.overflowed.load(Relaxed)
    }

    /// The keys that are in this state now. Looks at all of them, a sixteenth at a time.
    #[must_use]
    pub fn keys_in(&self, state: State) -> Vec<Arc<str>> {
        let mut keys = Vec::new();
        for shard in &self.family.shards {
            let shard = lock(shard);
            let found = shard
                .entries
                .iter()
                .filter(|(_, it)| it.breaker.state() == state);
            keys.extend(found.map(|(key, _)| Arc::clone(key)));
        }
        keys
    }
}

impl Shard {
    /// Makes room: of those that may be forgotten the eighth that was not asked for longest, so
    /// that not every new key has to look at all.
    fn forget(&mut self) {
        let may =
            |entry: &Entry| entry.breaker.state() == State::Closed && entry.breaker.is_held_once();
        let mut ages: Vec<u64> = self
            .entries
            .values()
            .filter(|entry| may(entry))
            .map(|entry| entry.used)
            .collect();
        if ages.is_empty() {
            return;
        }
        let last = (ages.len() / 8).min(ages.len() - 1);
        let (_, &mut limit, _) = ages.select_nth_unstable(last);
        self.entries
            .retain(|_, entry| entry.used > limit || !may(entry));
    }
}

fn lock(shard: &Mutex<Shard>) -> std::sync::MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(registry: &Registry, family: &Arc<Family>) {
    registry.add(family);
}

impl Family {
    fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).entries.len())
            .sum()
    }

    fn not_closed(&self) -> usize {
        let of_shard = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            let open = |entry: &&Entry| entry.breaker.state() != State::Closed;
            shard.entries.values().filter(open).count()
        };
        self.shards.iter().map(of_shard).sum()
    }
}

impl Registered for Family {
    fn pattern(&self) -> &'static str {
        "circuit_breaker"
    }

    fn name(&self) -> &str {
        self.template.name()
    }

    fn state(&self) -> &'static str {
        match self.not_closed() {
            0 => "all_closed",
            _ => "some_not_closed",
        }
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("buttress_circuit_breaker_keys", self.len() as u64);
        each(
            "buttress_circuit_breaker_keys_not_closed",
            self.not_closed() as u64,
        );
        each(
            "buttress_circuit_breaker_keys_overflowed",
            self.overflowed.load(Relaxed),
        );
    }
}

impl fmt::Debug for CircuitBreakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakers")
            .field("name", &self.family.name())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
