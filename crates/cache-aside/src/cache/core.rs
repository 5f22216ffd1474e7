//! What all clones of a cache share: the first level, the flights, the tags; and what changes them.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, MutexGuard, OnceLock},
    time::Duration,
};

use buttress_core::{Clock, Moment, Registered};

use crate::{
    CachePolicy, EventKind, Kept, LoadFailure, Loaded,
    behind::Pending,
    event::Told,
    fetch::{Arrival, From, Loader, Order, appraise, fetch},
    flight::{Flight, Flights, Landed, Passenger, Stripe},
    key::Key,
    level::{Gone, Level, Slot, was_refused},
    machine::{Life, Standing, xfetch_is_due},
    second::Second,
    tag::Tags,
};

pub(crate) type Weigher<V> = Arc<dyn Fn(&[u8], &V) -> u32 + Send + Sync>;
pub(crate) type Chance = Arc<dyn Fn() -> u64 + Send + Sync>;

pub(crate) struct Core<V> {
    pub(crate) told: Told,
    pub(crate) policy: CachePolicy,
    pub(crate) clock: Clock,
    pub(crate) tags: Tags,
    pub(crate) level: Level<V>,
    pub(crate) flights: Flights<V>,
    pub(crate) second: Option<Second<V>>,
    /// What waits to be written, where writes are answered before the source has them.
    pub(crate) behind: OnceLock<Arc<Pending<V>>>,
    pub(super) weigher: Option<Weigher<V>>,
    pub(super) chance: Option<Chance>,
}

/// How a caller comes to his value.
pub(crate) enum Boarding<V: Clone + Send + Sync + 'static> {
    /// It came in the meantime.
    Hit(Slot<V>, Moment),
    /// He began the flight.
    First(Passenger<V>),
    /// He joined one, and keeps his loader.
    Joined(Passenger<V>, Loader<V>),
}

impl<V: Clone + Send + Sync + 'static> Core<V> {
    /// What is served at once, with nothing else to be done: the way that must be short.
    #[inline]
    pub(crate) fn quiet(&self, key: &[u8]) -> Option<(Slot<V>, Moment)> {
        let slot = self.level.get(key)?;
        let now = self.clock.now();
        let is_quiet = slot.standing(now) == Standing::Quiet
            && !slot.is_fenced(&self.tags)
            && self.hears_others(now);
        is_quiet.then_some((slot, now))
    }

    /// Whether no change of another instance's may have been overlooked for too long.
    #[inline]
    fn hears_others(&self, now: Moment) -> bool {
        let second = self.second.as_ref();
        second.is_none_or(|second| second.trusts_first(now))
    }

    /// Where nobody tells of changes, an entry is looked at again soon after what it shows was looked at.
    pub(crate) fn cap(&self, life: &mut Life, looked: Moment) {
        if let Some(second) = &self.second {
            second.cap(life, looked);
        }
    }

    /// What is kept and was not invalidated, however old.
    pub(crate) fn alive(&self, key: &[u8]) -> Option<Slot<V>> {
        let slot = self.level.peek(key)?;
        (!slot.is_fenced(&self.tags)).then_some(slot)
    }

    /// How an entry stands at this read. Where early refreshes are drawn, it draws.
    pub(crate) fn standing(&self, slot: &Slot<V>, now: Moment) -> Standing {
        let (standing, life) = (slot.standing(now), &slot.life);
        if matches!(
            standing,
            Standing::Quiet | Standing::Early | Standing::Stale
        ) && !self.hears_others(now)
        {
            return Standing::Expired;
        }
        if standing == Standing::Early && !self.is_due_early(life, now) {
            return Standing::Quiet;
        }
        standing
    }

    /// Whether what may be loaded anew early is to be. Where early refreshes are drawn, it draws.
    pub(crate) fn is_due_early(&self, life: &Life, now: Moment) -> bool {
        life.scale.is_zero() || xfetch_is_due(life.scale, life.fresh_until, now, self.random())
    }

    /// Joins the flight of this key, or begins one.
    pub(crate) fn board(self: &Arc<Self>, key: &Key, loader: Loader<V>) -> Boarding<V> {
        let stripe = self.flights.stripe(key);
        self.board_under_lock(stripe, key, loader)
    }

    /// The same for one who cannot ask a second time: he joins no flight that might turn out to be of the past for
    /// him, because some tag was invalidated since it began.
    pub(crate) fn board_current(self: &Arc<Self>, key: &Key, loader: Loader<V>) -> Boarding<V> {
        let mut stripe = self.flights.stripe(key);
        let forgotten = stripe.forget_before(key, self.tags.now());
        let boarding = self.board_under_lock(stripe, key, loader);
        drop(forgotten);
        boarding
    }

    fn board_under_lock(
        self: &Arc<Self>,
        mut stripe: MutexGuard<'_, Stripe<V>>,
        key: &Key,
        loader: Loader<V>,
    ) -> Boarding<V> {
        let now = self.clock.now();
        let boarded = self.tags.now();
        let second = self.second.as_ref();
        let is_young = |begun| second.is_none_or(|second| second.may_join(begun, now));
        if let Some(flight) = stripe.join(key, is_young) {
            drop(stripe);
            let passenger = Passenger::new(Arc::clone(self), flight, boarded);
            return Boarding::Joined(passenger, loader);
        }
        // Or somebody has put what the source has not got yet. He queues it before he takes this lock: who comes after him
        // sees it here, or finds it in the source.
        if let Some(value) = self.behind.get().and_then(|behind| behind.get(key)) {
            drop(stripe);
            return Boarding::Hit(self.waiting(value, now, boarded), now);
        }
        // Between the caller's look and the lock, another flight may have landed.
        let stale = match self.alive(key) {
            Some(slot) if slot.standing(now) == Standing::Quiet && self.hears_others(now) => {
                drop(stripe);
                return Boarding::Hit(slot, now);
            }
            stale => stale,
        };
        let flight = self.depart(key, boarded, now, stale, loader);
        stripe.list(Arc::clone(&flight));
        drop(stripe);
        Boarding::First(Passenger::new(Arc::clone(self), flight, boarded))
    }

    /// A flight for one: nobody can join it, and it keeps nothing.
    pub(crate) fn alone(self: &Arc<Self>, key: &Key, loader: Loader<V>) -> Passenger<V> {
        let boarded = self.tags.now();
        let flight = self.depart(key, boarded, self.clock.now(), None, loader);
        Passenger::new(Arc::clone(self), flight, boarded)
    }

    /// Nothing of the user's runs here: a load does nothing before it is polled.
    fn depart(
        self: &Arc<Self>,
        key: &Key,
        born: u64,
        now: Moment,
        stale: Option<Slot<V>>,
        loader: Loader<V>,
    ) -> Arc<Flight<V>> {
        let had_stale = stale.is_some();
        let order = Order {
            key: Arc::clone(key),
            born,
            stale,
            loader,
        };
        let load = fetch(Arc::clone(self), order);
        Arc::new(Flight::new(Arc::clone(key), born, now, had_stale, load))
    }

    /// A flight has ended. What it brings is kept only if it is still listed, for else a write or an invalidation
    /// came after it began.
    pub(crate) fn land(&self, flight: &Arc<Flight<V>>, landed: Landed<V>) -> Landed<V> {
        let took = self.clock.now().saturating_since(flight.begun);
        match landed {
            Ok(mut arrival) => {
                let evicted = self.keep_landed(flight, &mut arrival);
                let kept = arrival.kept;
                match arrival.from {
                    From::Source => self.told.tell(EventKind::Loaded { took, kept }),
                    From::SecondLevel => self.told.tell_quietly(|| EventKind::SecondLevelHit),
                    From::Instead(why) => self.told.tell(EventKind::LoadFailed { took, why }),
                }
                self.tell_evicted(evicted);
                Ok(arrival)
            }
            Err(error) => {
                self.hush_landed(flight);
                let why = LoadFailure::of(&error);
                self.told.tell(EventKind::LoadFailed { took, why });
                Err(error)
            }
        }
    }

    fn keep_landed(&self, flight: &Arc<Flight<V>>, arrival: &mut Arrival<V>) -> u64 {
        // The user's clone is made outside of the lock.
        let slot = (arrival.kept == Kept::Kept).then(|| arrival.slot.clone());
        let mut stripe = self.flights.stripe(&flight.key);
        let is_current = stripe.unlist(flight) && !arrival.slot.is_fenced(&self.tags);
        if !is_current {
            if arrival.kept == Kept::Kept {
                arrival.kept = Kept::Outdated;
            }
            return 0;
        }
        let gone = self.set(&flight.key, slot);
        drop(stripe);
        if was_refused(&gone, &flight.key) {
            arrival.kept = Kept::TooLarge;
        }
        count_others(&gone, &flight.key)
    }

    fn hush_landed(&self, flight: &Arc<Flight<V>>) {
        let mut stripe = self.flights.stripe(&flight.key);
        let gone = if stripe.unlist(flight) {
            self.hush_under_lock(&flight.key)
        } else {
            Vec::new()
        };
        drop(stripe);
        drop(gone);
    }

    /// For a while no load of this key is begun, if there is something to serve meanwhile.
    pub(crate) fn hush(&self, key: &Key) {
        let stripe = self.flights.stripe(key);
        let gone = self.hush_under_lock(key);
        drop(stripe);
        drop(gone);
    }

    fn hush_under_lock(&self, key: &Key) -> Gone<V> {
        let Some(mut slot) = self.alive(key) else {
            return Vec::new();
        };
        slot.life.hush(self.clock.now(), self.policy.throttle());
        self.level.replace(key, slot)
    }

    /// Puts an entry into the first level, or takes out what is there. Under the stripe's lock.
    fn set(&self, key: &Key, slot: Option<Slot<V>>) -> Gone<V> {
        match slot {
            Some(slot) => self.level.insert(Arc::clone(key), slot),
            None => self.level.remove(key).into_iter().collect(),
        }
    }

    /// What is written by hand, in terms of an entry.
    pub(crate) fn written(&self, key: &[u8], loaded: Loaded<V>, born: u64) -> Option<Arrival<V>> {
        let (now, stale) = (self.clock.now(), self.alive(key));
        appraise(self, key, loaded, born, stale, now, Duration::ZERO).ok()
    }

    /// What waits to be written under this key, and is served meanwhile: the source has not got it yet.
    pub(crate) fn unwritten(&self, key: &[u8]) -> Option<Slot<V>> {
        let value = self.behind.get()?.get(key)?;
        Some(self.waiting(value, self.clock.now(), self.tags.now()))
    }

    /// A value that waits to be written, in terms of an entry. It is served and not kept: what it weighs is all one.
    fn waiting(&self, value: Option<V>, now: Moment, born: u64) -> Slot<V> {
        let terms = match value {
            Some(_) => self.policy.terms(Duration::ZERO),
            None => self.policy.negative_terms(),
        };
        Slot {
            value,
            life: Life::begin(&terms, now),
            born,
            weight: 1,
            more: None,
        }
    }

    /// A write: it fences the loads that began before it, and is kept if it can be.
    pub(crate) fn put_local(&self, key: &Key, arrival: Arrival<V>) {
        self.put_if(key, arrival, |_| true);
    }

    /// The same, but it is kept only if, once loads of before are fenced and others wait, it is still the last.
    pub(super) fn put_local_if(
        &self,
        key: &Key,
        arrival: Arrival<V>,
        is_last: impl FnOnce() -> bool,
    ) {
        self.put_if(key, arrival, |_| is_last());
    }

    /// A write to the source has ended: what it wrote is kept if nothing crossed it.
    pub(super) fn end_write(&self, key: &Key, written: Option<Arrival<V>>) {
        match written {
            Some(arrival) => self.put_if(key, arrival, |stripe| stripe.end_write(key)),
            None => {
                self.flights.stripe(key).end_write(key);
                self.invalidate_local(key);
            }
        }
    }

    fn put_if(&self, key: &Key, arrival: Arrival<V>, is_kept: impl FnOnce(&mut Stripe<V>) -> bool) {
        let slot = (arrival.kept == Kept::Kept).then_some(arrival.slot);
        let mut stripe = self.flights.stripe(key);
        let is_kept = is_kept(&mut stripe);
        let slot = slot.filter(|_| is_kept);
        let fenced = stripe.fence(key);
        let gone = self.set(key, slot);
        drop(stripe);
        drop(fenced);
        let evicted = count_others(&gone, key);
        drop(gone);
        self.told.tell(EventKind::Put);
        self.tell_evicted(evicted);
    }

    /// An invalidation: it fences the loads that began before it, and nothing is kept.
    pub(crate) fn invalidate_local(&self, key: &[u8]) {
        let mut stripe = self.flights.stripe(key);
        let fenced = stripe.fence(key);
        let gone = self.level.remove(key);
        drop(stripe);
        drop((fenced, gone));
        self.told.tell(EventKind::Invalidated);
    }

    /// The same, but what was there may still be served instead of an error.
    pub(crate) fn expire_local(&self, key: &[u8]) {
        let mut stripe = self.flights.stripe(key);
        let fenced = stripe.fence(key);
        let mut alive = self.alive(key);
        let now = self.clock.now();
        let is_kept = alive.as_mut().is_some_and(|slot| slot.life.expire(now));
        let gone = match alive.filter(|_| is_kept) {
            Some(slot) => self.level.replace(key, slot),
            None => self.level.remove(key).into_iter().collect(),
        };
        drop(stripe);
        drop((fenced, gone));
        self.told.tell(EventKind::Invalidated);
    }

    pub(crate) fn invalidate_tag_local(&self, tag: &str) {
        self.tags.invalidate(tag);
        self.told.tell(EventKind::TagInvalidated);
    }

    /// All at once by one number; what follows only gives memory back.
    pub(crate) fn clear_local(&self) {
        self.tags.clear();
        self.flights.forget_all();
        self.level.drain();
        self.told.tell(EventKind::Cleared);
    }

    pub(crate) fn weigh(&self, key: &[u8], value: &V) -> u32 {
        self.weigher.as_ref().map_or(1, |weigh| weigh(key, value))
    }

    pub(crate) fn random(&self) -> u64 {
        match &self.chance {
            Some(chance) => chance(),
            // Every RandomState has keys of its own, and its hash of nothing is a keyed mixture of them.
            None => RandomState::new().hash_one(()),
        }
    }

    fn tell_evicted(&self, entries: u64) {
        if entries > 0 {
            self.told.tell(EventKind::Evicted { entries });
        }
    }
}

/// How many other entries went.
fn count_others<V>(gone: &Gone<V>, key: &Key) -> u64 {
    let others = gone.iter().filter(|(other, _)| other != key).count();
    u64::try_from(others).unwrap_or(u64::MAX)
}

impl<V: Clone + Send + Sync + 'static> Registered for Core<V> {
    fn pattern(&self) -> &'static str {
        "cache_aside"
    }

    fn name(&self) -> &str {
        &self.told.name
    }

    fn state(&self) -> &'static str {
        "serving"
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let of = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        each("buttress_cache_aside_entries", of(self.level.len()));
        each("buttress_cache_aside_weight", self.level.weight());
        each("buttress_cache_aside_flights", of(self.flights.under_way()));
        each("buttress_cache_aside_tags", of(self.tags.known()));
        if let Some(second) = &self.second {
            each("buttress_cache_aside_owed", of(second.owed().len()));
        }
        if let Some(behind) = self.behind.get() {
            each("buttress_cache_aside_unwritten", of(behind.len()));
        }
    }
}

impl<V> fmt::Debug for Core<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.told.name)
            .finish_non_exhaustive()
    }
}
