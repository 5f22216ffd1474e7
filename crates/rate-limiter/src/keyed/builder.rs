//! Making a keyed limiter.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, RandomState},
    marker::PhantomData,
    sync::{Arc, RwLock, atomic::AtomicBool},
};

use buttress_core::{Clock, Observer, Observers, Registry};

use super::{
    Family, KeyedRateLimiter, Tables,
    line::Lines,
    sets::Sets,
    table::{Hashing, Table},
};
use crate::{Event, PolicyError, Quota, machine::Plan, told::Told};

/// Makes a [`KeyedRateLimiter`].
#[must_use]
pub struct KeyedRateLimiterBuilder<K> {
    told: Told,
    quota: Quota,
    clock: Option<Clock>,
    keys: usize,
    shadow: bool,
    waiting: usize,
    trusted: bool,
    fixed: bool,
    registry: Option<Registry>,
    key: PhantomData<fn(K)>,
}

impl<K: Hash + Eq> KeyedRateLimiterBuilder<K> {
    pub(super) const fn new(name: Cow<'static, str>, quota: Quota) -> Self {
        Self {
            told: Told {
                name,
                observers: Observers::none(),
            },
            quota,
            clock: None,
            keys: 1_000_000,
            shadow: false,
            waiting: 1024,
            trusted: false,
            fixed: false,
            registry: None,
            key: PhantomData,
        }
    }

    /// How many keys it may hold, from 1 to 100,000,000; rounded up by less than the number of its
    /// shards (16 to 4096). A million by default. Memory is taken as keys come.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    /// The clock that it is told the time by.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// One more who hears what happens. With one there, every decision makes an event.
    pub fn observer(mut self, observer: impl Observer<Event> + 'static) -> Self {
        self.told.observers = self.told.observers.with(observer);
        self
    }

    /// Decides, tells, and lets everything through.
    pub const fn shadow(mut self, shadow: bool) -> Self {
        self.shadow = shadow;
        self
    }

    /// How many may wait in line, over all keys; the next is turned away. 1024 by default.
    pub const fn max_waiting(mut self, waiting: usize) -> Self {
        self.waiting = waiting;
        self
    }

    /// No stranger chooses the keys (numbers of your own, a fixed list): they are hashed faster, without
    /// the defence against keys that are made to collide.
    pub const fn trusted_keys(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// Keeps the keys' hashes instead of the keys, in a table of fixed size: a key costs one cache
    /// line and no lock. For one bucket or fixed window.
    ///
    /// - Memory is taken at once: 32 to 64 bytes for each of [`max_keys`](Self::max_keys).
    /// - Two keys whose hashes agree in 63 bits share a bucket: among a million keys there is such a
    ///   pair once in about 20 million limiters. No stranger can find one, unless they are
    ///   [`trusted_keys`](Self::trusted_keys).
    /// - A key has four places that it can be in. While all are in use by others that are not idle,
    ///   the one of these that owes least is forgotten, and
    ///   [counted](KeyedRateLimiter::forgotten): about one key in thirty if `max_keys` of them are
    ///   all busy at once.
    /// - The quota cannot be changed.
    pub const fn fixed_memory(mut self) -> Self {
        self.fixed = true;
        self
    }

    /// Lists it there, as one entry, as long as it lives.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// The limiter.
    ///
    /// # Errors
    ///
    /// A quota that cannot work, or not in fixed memory, or a number of keys outside of its range.
    pub fn build(self) -> Result<KeyedRateLimiter<K>, PolicyError>
    where
        K: Send + Sync + 'static,
    {
        if !(1..=100_000_000).contains(&self.keys) {
            return Err(PolicyError::new("max_keys", "1 to 100000000"));
        }
        let plan = Plan::in_process(&self.quota)?;
        let hashing = if self.trusted {
            Hashing::Trusted(foldhash::fast::RandomState::default())
        } else {
            Hashing::Hostile(RandomState::new())
        };
        let tables = match plan.single_bucket() {
            Some(bucket) if self.fixed => {
                Tables::Sets(Sets::new(Arc::new(*bucket), self.keys, hashing))
            }
            None if self.fixed => {
                let range = "one bucket or fixed window, for fixed memory";
                return Err(PolicyError::new("quota", range));
            }
            Some(bucket) => Tables::Words(Table::new(&Arc::new(*bucket), self.keys, hashing)),
            None => Tables::Cells(Table::new(&Arc::new(plan), self.keys, hashing)),
        };
        let family = Arc::new(Family {
            tables,
            clock: self.clock.unwrap_or_default(),
            told: self.told,
            shadow: AtomicBool::new(self.shadow),
            lines: Lines::new(self.waiting),
            quota: RwLock::new(self.quota),
        });
        if let Some(registry) = self.registry {
            registry.add(&family);
        }
        Ok(KeyedRateLimiter { family })
    }
}

impl<K> fmt::Debug for KeyedRateLimiterBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimiterBuilder")
            .field("name", &self.told.name)
            .field("quota", &self.quota)
            .field("max_keys", &self.keys)
            .finish_non_exhaustive()
    }
}
