//! The flights that a later caller may still join, and the writes under way.
//!
//! All changes to what is kept under a key are made under its stripe's lock: so a flight that is not listed
//! any more when it lands knows that a write or an invalidation came, and keeps nothing.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buttress_core::Moment;

use super::Flight;
use crate::key::Key;

const STRIPES: usize = 64;

type Map<T> = HashMap<Key, T, foldhash::quality::RandomState>;

pub(crate) struct Flights<V> {
    stripes: Box<[Mutex<Stripe<V>>]>,
    hasher: foldhash::quality::RandomState,
}

pub(crate) struct Stripe<V> {
    flights: Map<Listed<V>>,
    writes: Map<Writes>,
}

struct Listed<V> {
    flight: Arc<Flight<V>>,
    aboard: usize,
}

/// Writes under way to the source of one key.
#[derive(Default)]
struct Writes {
    count: usize,
    /// Another write or an invalidation came in between: nobody knows whose value is the last.
    crossed: bool,
}

impl<V> Flights<V> {
    pub(crate) fn new() -> Self {
        let stripe = || {
            Mutex::new(Stripe {
                flights: Map::default(),
                writes: Map::default(),
            })
        };
        Self {
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            hasher: foldhash::quality::RandomState::default(),
        }
    }

    pub(crate) fn stripe(&self, key: &[u8]) -> MutexGuard<'_, Stripe<V>> {
        let hash = self.hasher.hash_one(key);
        // The remainder is below 64.
        let at = usize::try_from(hash % STRIPES as u64).unwrap_or_default();
        let stripe = self.stripes[at].lock();
        stripe.unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all flights, stripe by stripe. They fly on for those aboard.
    pub(crate) fn forget_all(&self) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            stripe.writes.values_mut().for_each(|it| it.crossed = true);
            let forgotten = std::mem::take(&mut stripe.flights);
            drop(stripe);
            drop(forgotten);
        }
    }

    pub(crate) fn under_way(&self) -> usize {
        let count = |stripe: &Mutex<Stripe<V>>| {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            stripe.flights.len()
        };
        self.stripes.iter().map(count).sum()
    }
}

impl<V> Stripe<V> {
    /// Joins the flight of this key, if there is one.
    pub(crate) fn join(
        &mut self,
        key: &[u8],
        may: impl FnOnce(Moment) -> bool,
    ) -> Option<Arc<Flight<V>>> {
        let listed = self.flights.get_mut(key)?;
        if !may(listed.flight.begun) {
            return None;
        }
        listed.aboard += 1;
        Some(Arc::clone(&listed.flight))
    }

    /// Forgets the flight of this key, if it began before this number. What is returned is to be dropped outside
    /// of the lock.
    pub(crate) fn forget_before(&mut self, key: &[u8], number: u64) -> Option<Arc<Flight<V>>> {
        let is_older = self.flights.get(key)?.flight.born < number;
        is_older.then(|| self.forget_flight(key)).flatten()
    }

    /// Lists a flight with one aboard. There was none.
    pub(crate) fn list(&mut self, flight: Arc<Flight<V>>) {
        let key = Arc::clone(&flight.key);
        self.flights.insert(key, Listed { flight, aboard: 1 });
    }

    /// One leaves; with the last one, the flight is unlisted, and is returned to be dropped.
    pub(super) fn leave(&mut self, flight: &Arc<Flight<V>>) -> Option<Arc<Flight<V>>> {
        let listed = self.flights.get_mut(&flight.key)?;
        if !Arc::ptr_eq(&listed.flight, flight) {
            return None;
        }
        listed.aboard -= 1;
        if listed.aboard > 0 {
            return None;
        }
        self.forget_flight(&flight.key)
    }

    /// Unlists this very flight; false when it was forgotten before.
    pub(crate) fn unlist(&mut self, flight: &Arc<Flight<V>>) -> bool {
        let listed = self.flights.get(&flight.key);
        let is_it = listed.is_some_and(|listed| Arc::ptr_eq(&listed.flight, flight));
        if is_it {
            // Its passengers hold it, so it is not dropped here.
            self.flights.remove(&flight.key);
        }
        is_it
    }

    /// A write or an invalidation: the flight of this key, if any, is not joined any more and keeps nothing,
    /// and a write under way does not know any more whether its value is the last. What is returned is to be
    /// dropped outside of the lock.
    pub(crate) fn fence(&mut self, key: &[u8]) -> Option<Arc<Flight<V>>> {
        if let Some(writes) = self.writes.get_mut(key) {
            writes.crossed = true;
        }
        self.forget_flight(key)
    }

    fn forget_flight(&mut self, key: &[u8]) -> Option<Arc<Flight<V>>> {
        self.flights.remove(key).map(|listed| listed.flight)
    }

    /// A write to the source of this key begins.
    pub(crate) fn begin_write(&mut self, key: &Key) {
        let writes = self.writes.entry(Arc::clone(key)).or_default();
        writes.crossed |= writes.count > 0;
        writes.count += 1;
    }

    /// It ends. Whether its value is certainly the last that was written.
    pub(crate) fn end_write(&mut self, key: &[u8]) -> bool {
        let Some(writes) = self.writes.get_mut(key) else {
            return false;
        };
        let is_last = !writes.crossed;
        writes.count -= 1;
        if writes.count == 0 {
            self.writes.remove(key);
        }
        is_last
    }
}
