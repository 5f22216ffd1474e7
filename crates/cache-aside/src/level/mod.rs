//! The first level: entries in this process, on `quick_cache`.
//!
//! It knows no rule: what is put in stays until it is taken out or has to make room. Values that go are
//! handed out, so that they are dropped outside of all locks.

mod slot;

use std::{num::NonZeroUsize, sync::Arc};

use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync};

pub(crate) use self::slot::{More, Slot};
use crate::{CachePolicy, key::Key};

/// What went while one entry came in.
pub(crate) type Gone<V> = Vec<(Key, Slot<V>)>;

pub(crate) struct Level<V> {
    entries: sync::Cache<Key, Slot<V>, ByWeight, foldhash::quality::RandomState, HandOut>,
}

/// An entry weighs what was found when it came.
#[derive(Clone, Copy, Debug)]
struct ByWeight;

impl<V> Weighter<Key, Slot<V>> for ByWeight {
    fn weight(&self, _key: &Key, slot: &Slot<V>) -> u64 {
        // An entry of no weight would never be evicted.
        u64::from(slot.weight.max(1))
    }
}

/// What is evicted is handed to the one who put something in.
#[derive(Clone, Copy, Debug)]
struct HandOut;

impl<V> Lifecycle<Key, Slot<V>> for HandOut {
    type RequestState = Gone<V>;

    fn on_evict(&self, gone: &mut Gone<V>, key: Key, slot: Slot<V>) {
        gone.push((key, slot));
    }
}

impl<V: Clone> Level<V> {
    pub(crate) fn new(policy: &CachePolicy, is_weighed: bool) -> Self {
        let capacity = policy.capacity();
        let expected = policy.expected_entries().unwrap_or(if is_weighed {
            capacity / 1024
        } else {
            capacity
        });
        let expected = usize::try_from(expected.clamp(1, 1 << 32)).unwrap_or(usize::MAX);
        let shards = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) * 4;
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(expected)
            .weight_capacity(capacity)
            .build()
            .expect("both capacities are given");
        Self {
            entries: sync::Cache::with_options(
                options,
                ByWeight,
                foldhash::quality::RandomState::default(),
                HandOut,
            ),
        }
    }

    /// The entry, as it is. The value is cloned under a lock that readers share.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Slot<V>> {
        self.entries.get(key)
    }

    /// The same, without making it look used.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<Slot<V>> {
        self.entries.peek(key)
    }

    /// Puts an entry in, and says what went for it: the older one of this key, others that made room, or
    /// itself, when it is too heavy.
    pub(crate) fn insert(&self, key: Key, slot: Slot<V>) -> Gone<V> {
        let mut gone = Vec::new();
        self.entries.insert_with_lifecycle(key, slot, &mut gone);
        gone
    }

    /// Changes an entry that is there, without making it look used.
    pub(crate) fn replace(&self, key: &[u8], slot: Slot<V>) -> Gone<V> {
        // A key of its own, so that who puts something in later knows his own entry among what went.
        let key = key.into();
        let mut gone = Vec::new();
        let replaced = self
            .entries
            .replace_with_lifecycle(key, slot, true, &mut gone);
        gone.extend(replaced.err());
        gone
    }

    pub(crate) fn remove(&self, key: &[u8]) -> Option<(Key, Slot<V>)> {
        self.entries.remove(key)
    }

    /// Takes all out, one by one.
    pub(crate) fn drain(&self) {
        self.entries.drain().for_each(drop);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.entries.weight()
    }
}

/// Whether it is the new entry itself that went.
pub(crate) fn was_refused<V>(gone: &Gone<V>, key: &Key) -> bool {
    gone.iter().any(|(other, _)| Arc::ptr_eq(other, key))
}
