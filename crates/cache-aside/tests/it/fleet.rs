//! Several instances that share a second level: what one changes, the others do not overlook.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use buttress_cache_aside::{
    Cache, CacheOutcome, CachePolicy, Event, EventKind, Loaded, SecondLevel,
    bus::{LinePolicy, MemoryBus},
    codec::{Framing, Json, Schema},
    store::{
        CacheStore, FillToken, Looked, Marked, Marks, MemoryStore, Missed, Reading, Record, Stamp,
        Watch,
    },
};
use buttress_core::{Clock, clock::ManualHand};
use buttress_store::{Deadline, Gate, Key, Phase, StoreError, StoreErrorKind};
use buttress_testkit::eventually;
use futures_util::FutureExt as _;
use tokio::sync::Notify;

use crate::stand::SECOND;

const PATIENCE: Duration = Duration::from_secs(20);

/// A store that can be taken away, and held up before it answers a read.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub(crate) store: Arc<MemoryStore>,
    down: Arc<Mutex<Option<StoreErrorKind>>>,
    trips: Arc<AtomicUsize>,
    hold: Arc<Mutex<Option<(Arc<Notify>, Arc<Notify>)>>>,
}

impl Shelf {
    fn new(clock: Clock) -> Self {
        Self {
            store: Arc::new(MemoryStore::with_clock(clock)),
            down: Arc::default(),
            trips: Arc::default(),
            hold: Arc::default(),
        }
    }

    fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down.then_some(StoreErrorKind::Unreachable);
    }

    fn up(&self) -> Result<(), StoreError> {
        self.trips.fetch_add(1, SeqCst);
        match *self.down.lock().unwrap() {
            Some(kind) => Err(StoreError::new(kind, Phase::Statement)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl CacheStore for Shelf {
    async fn read(
        &self,
        keys: &[Key],
        watch: Option<Watch<'_>>,
        deadline: Deadline,
    ) -> Result<Reading, StoreError> {
        self.up()?;
        let reading = self.store.read(keys, watch, deadline).await;
        let held = self.hold.lock().unwrap().take();
        if let Some((reached, go_on)) = held {
            reached.notify_one();
            go_on.notified().await;
        }
        reading
    }

    async fn claim(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Missed>, StoreError> {
        self.up()?;
        self.store.claim(keys, deadline).await
    }

    async fn marks(&self, watch: Watch<'_>, deadline: Deadline) -> Result<Marks, StoreError> {
        self.up()?;
        self.store.marks(watch, deadline).await
    }

    async fn fill(
        &self,
        key: &Key,
        token: &FillToken,
        record: Record<'_>,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        self.up()?;
        self.store.fill(key, token, record, deadline).await
    }

    async fn take_over(&self, key: &Key, deadline: Deadline) -> Result<FillToken, StoreError> {
        self.up()?;
        self.store.take_over(key, deadline).await
    }

    async fn invalidate(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        self.up()?;
        self.store.invalidate(keys, deadline).await
    }

    async fn expire(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        self.up()?;
        self.store.expire(keys, deadline).await
    }

    async fn mark(
        &self,
        space: &Key,
        what: Marked<'_>,
        deadline: Deadline,
    ) -> Result<Stamp, StoreError> {
        self.up()?;
        self.store.mark(space, what, deadline).await
    }
}

/// What all instances share: a second level, a bus, a clock that is moved by hand, a source.
struct Fleet {
    shelf: Shelf,
    bus: MemoryBus,
    clock: Clock,
    hand: ManualHand,
    source: Arc<AtomicU32>,
    loads: Arc<AtomicUsize>,
}

/// One instance.
struct Instance {
    cache: Cache<u32>,
    source: Arc<AtomicU32>,
    loads: Arc<AtomicUsize>,
    events: Arc<Mutex<Vec<EventKind>>>,
}

fn framing() -> Framing<u32> {
    Framing::new(Json::new(), Schema::new("u32", 1).unwrap())
}

fn policy() -> CachePolicy {
    let builder = CachePolicy::builder().jitter_percent(0).ttl(10 * SECOND);
    builder.build().unwrap()
}

fn line() -> LinePolicy {
    LinePolicy {
        beat: Duration::from_millis(10),
        ..LinePolicy::default()
    }
}

impl Fleet {
    fn new() -> Self {
        let (clock, hand) = Clock::manual();
        Self {
            shelf: Shelf::new(clock.clone()),
            bus: MemoryBus::new(),
            clock,
            hand,
            source: Arc::new(AtomicU32::new(10)),
            loads: Arc::default(),
        }
    }

    /// With the bus; its time is real, that of entries is moved.
    async fn instance(&self) -> Instance {
        let instance = self.with(policy(), true);
        eventually("it hears", PATIENCE, async || {
            instance.cache.heard_within(Duration::MAX).then_some(())
        })
        .await;
        instance
    }

    fn with(&self, policy: CachePolicy, bus: bool) -> Instance {
        let second = SecondLevel::new(self.shelf.clone(), framing());
        // What it hears, it hears by the same clock that is moved by hours.
        let second = second.staleness(Duration::from_secs(3600)).unwrap();
        let second = second.gate(Gate::redis().with_clock(self.clock.clone()));
        let second = if bus {
            second.bus(self.bus.clone(), line()).unwrap()
        } else {
            second
        };
        let events: Arc<Mutex<Vec<EventKind>>> = Arc::default();
        let hears = Arc::clone(&events);
        let cache = Cache::builder("fleet", policy)
            .clock(self.clock.clone())
            .observer(move |event: &Event| hears.lock().unwrap().push(event.kind))
            .second_level(second)
            .build();
        Instance {
            cache,
            source: Arc::clone(&self.source),
            loads: Arc::clone(&self.loads),
            events,
        }
    }

    fn loads(&self) -> usize {
        self.loads.load(SeqCst)
    }
}

impl Instance {
    /// What the source has.
    async fn get(&self) -> u32 {
        self.ask("k", |value| Loaded::new(value)).await
    }

    async fn ask(&self, key: &str, loaded: fn(u32) -> Loaded<u32>) -> u32 {
        let (source, loads) = (Arc::clone(&self.source), Arc::clone(&self.loads));
        let loader = move || async move {
            loads.fetch_add(1, SeqCst);
            Ok::<_, io::Error>(loaded(source.load(SeqCst)))
        };
        self.cache.get_or_load(key, loader).await.unwrap()
    }

    async fn load(&self, key: &str, loaded: Loaded<u32>) -> u32 {
        let loads = Arc::clone(&self.loads);
        let loader = move || async move {
            loads.fetch_add(1, SeqCst);
            Ok::<_, io::Error>(loaded)
        };
        self.cache.get_or_load(key, loader).await.unwrap()
    }

    async fn fail(&self, key: &str) -> Option<u32> {
        let loader = || async { Err::<u32, _>(io::Error::other("the source is down")) };
        self.cache.get_or_load(key, loader).await.ok()
    }

    async fn shows(&self, value: u32) {
        eventually("it shows it", PATIENCE, async || {
            (self.get().await == value).then_some(())
        })
        .await;
    }

    fn heard(&self, is_it: impl Fn(&EventKind) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(is_it)
    }

    async fn pays(&self) {
        eventually("it owes nothing", PATIENCE, async || {
            (self.cache.owed() == 0).then_some(())
        })
        .await;
    }
}

async fn stored(fleet: &Fleet, key: &Key, record: Record<'_>) {
    let (store, soon) = (&fleet.shelf.store, Deadline::after(PATIENCE));
    let token = store.take_over(key, soon).await.unwrap();
    assert!(store.fill(key, &token, record, soon).await.unwrap());
}

#[tokio::test]
async fn what_one_loaded_the_others_do_not_load() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    assert_eq!(a.get().await, 10);
    fleet.source.store(11, SeqCst);
    assert_eq!(b.get().await, 10);
    assert_eq!(b.cache.get("k").await, Some(10));
    assert_eq!(fleet.loads(), 1);
    assert!(b.heard(|event| *event == EventKind::SecondLevelHit));
    // A new instance, which was not there.
    let c = fleet.with(policy(), false);
    assert_eq!(c.cache.get("k").await, Some(10));
    assert_eq!(c.cache.get("unknown").await, None);
}

#[tokio::test]
async fn what_one_changes_the_others_see() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    for round in 0..20_u32 {
        a.get().await;
        b.get().await;
        let value = 100 + round;
        fleet.source.store(value, SeqCst);
        match round % 5 {
            0 => a.cache.invalidate("k").await,
            1 => a.cache.expire("k").await,
            2 => a.cache.clear().await,
            3 => a.cache.put("k", value).await,
            _ => {
                let write = || async { Ok::<_, io::Error>(value) };
                let written = a.cache.write_through("k", write).await;
                assert_eq!(written.unwrap(), Some(value));
            }
        }
        assert_eq!(a.get().await, value, "at once, where it was changed");
        b.shows(value).await;
        assert_eq!(a.cache.owed(), 0);
    }
}

#[tokio::test]
async fn an_invalidation_after_the_commit_reaches_the_others() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    a.get().await;
    b.get().await;
    let after_commit = a.cache.invalidate_after_commit("k");
    fleet.source.store(20, SeqCst);
    assert_eq!(b.get().await, 10, "nothing is said before the commit");
    after_commit.fire();
    assert_eq!(a.get().await, 20);
    b.shows(20).await;
    a.pays().await;
}

/// A loader begun before a change anywhere is seen by nobody after it.
#[tokio::test]
async fn ca_29_a_loader_that_was_overtaken_elsewhere_is_kept_by_nobody() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    for change in 0..5_u32 {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
        let cache = a.cache.clone();
        let slow = tokio::spawn(async move {
            let loader = move || async move {
                told.notify_one();
                waits.notified().await;
                Ok::<_, io::Error>(Loaded::new(1_u32).tags(["t"]))
            };
            cache.get_or_load("k", loader).await.unwrap()
        });
        begun.notified().await;
        match change {
            0 => b.cache.invalidate("k").await,
            1 => b.cache.put("k", 2_u32).await,
            2 => b.cache.invalidate_tag("t").await,
            3 => b.cache.clear().await,
            _ => b.cache.expire("k").await,
        }
        go_on.notify_one();
        assert_eq!(slow.await.unwrap(), 1, "its own caller came before");
        fleet.source.store(2, SeqCst);
        let c = fleet.with(policy(), false);
        for instance in [&c, &b] {
            assert_eq!(instance.get().await, 2, "{change}");
        }
        a.shows(2).await;
        b.cache.invalidate("k").await;
        assert_eq!(b.cache.get("k").await, None);
        eventually("a heard it", PATIENCE, async || {
            a.cache.get("k").await.is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn ca_31_an_entry_that_is_on_its_way_is_not_kept_after_an_invalidation() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    b.get().await;
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    *fleet.shelf.hold.lock().unwrap() = Some((Arc::clone(&reached), Arc::clone(&go_on)));
    let cache = a.cache.clone();
    let asks = tokio::spawn(async move {
        let loader = || async { Ok::<_, io::Error>(0_u32) };
        cache.get_or_load("k", loader).await.unwrap()
    });
    reached.notified().await;
    fleet.source.store(20, SeqCst);
    b.cache.invalidate("k").await;
    eventually("a heard it", PATIENCE, async || {
        a.heard(|event| *event == EventKind::Invalidated)
            .then_some(())
    })
    .await;
    go_on.notify_one();
    assert_eq!(asks.await.unwrap(), 10, "it was asked before");
    assert_eq!(a.cache.len(), 0, "and is not kept");
    assert_eq!(a.get().await, 20);
}

#[tokio::test]
async fn ca_11_tags_reach_all_instances_and_only_their_entries() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    let set = async |instance: &Instance, key, value: u32, tags: [&'static str; 2]| {
        instance.load(key, Loaded::new(value).tags(tags)).await
    };
    let (x, y, z) = ("x", "y", "z");
    set(&a, "foo", 1, [x, y]).await;
    set(&a, "bar", 2, [y, z]).await;
    set(&a, "baz", 3, [x, z]).await;
    for key in ["foo", "bar", "baz"] {
        assert_ne!(
            b.load(key, Loaded::new(0)).await,
            0,
            "from the second level"
        );
    }
    let gone = async |key: &str| {
        eventually("b heard it", PATIENCE, async || {
            b.cache.get(key).await.is_none().then_some(())
        })
        .await;
    };
    a.cache.invalidate_tag(x).await;
    assert_eq!(a.cache.get("foo").await, None);
    assert_eq!(a.cache.get("bar").await, Some(2));
    gone("foo").await;
    assert_eq!(b.cache.get("bar").await, Some(2));
    gone("baz").await;
    assert_eq!(set(&b, "baz", 333, [x, z]).await, 333);
    a.cache.invalidate_tag(y).await;
    gone("foo").await;
    gone("bar").await;
    assert_eq!(set(&b, "foo", 1111, [x, y]).await, 1111);
    assert_eq!(set(&b, "bar", 2222, [y, z]).await, 2222);
    for instance in [&a, &b] {
        assert_eq!(instance.load("foo", Loaded::new(0)).await, 1111);
        assert_eq!(instance.load("bar", Loaded::new(0)).await, 2222);
        assert_eq!(instance.load("baz", Loaded::new(0)).await, 333);
    }
}

#[tokio::test]
async fn ca_13_an_entry_whose_tags_are_not_known_is_missed() {
    let fleet = Fleet::new();
    let a = fleet.with(policy(), false);
    a.load("k", Loaded::new(1).tags(["t"])).await;
    a.load("untagged", Loaded::new(1)).await;
    // The marks are lost: nobody knows what was marked.
    let key = |name: &str| Key::new([b"5:fleet,", name.as_bytes()].concat()).unwrap();
    let soon = Deadline::after(PATIENCE);
    let mut kept = Vec::new();
    for name in ["k", "untagged"] {
        let reading = fleet.shelf.store.read(&[key(name)], None, soon).await;
        let Looked::Held(held) = reading.unwrap().keys.remove(0) else {
            panic!("{name} was filled");
        };
        kept.push((key(name), held));
    }
    fleet.shelf.store.flush();
    for (key, held) in kept {
        let record = Record {
            bytes: &held.bytes,
            fresh: held.fresh,
            life: held.life,
        };
        stored(&fleet, &key, record).await;
    }
    let b = fleet.with(policy(), false);
    assert_eq!(b.load("k", Loaded::new(2)).await, 2);
    assert_eq!(b.load("untagged", Loaded::new(2)).await, 2);
}

#[tokio::test]
async fn ca_14_an_entry_from_the_second_level_has_what_is_left_of_its_life() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    a.load("k", Loaded::new(1).ttl(2 * SECOND)).await;
    fleet.hand.advance(SECOND);
    // It would have it for ten.
    assert_eq!(b.load("k", Loaded::new(2)).await, 1);
    fleet.hand.advance(SECOND / 2);
    assert_eq!(b.cache.get("k").await, Some(1));
    fleet.hand.advance(SECOND);
    assert_eq!(b.cache.get("k").await, None, "after two in all");
}

#[tokio::test]
async fn ca_15_a_newer_one_in_the_second_level_is_used_before_the_source() {
    let fleet = Fleet::new();
    let stale = CachePolicy::builder()
        .jitter_percent(0)
        .ttl(2 * SECOND)
        .stale_if_error(100 * SECOND)
        .build()
        .unwrap();
    let (a, b) = (fleet.with(stale.clone(), false), fleet.with(stale, false));
    a.load("k", Loaded::new(1)).await;
    assert_eq!(b.load("k", Loaded::new(0)).await, 1);
    fleet.hand.advance(3 * SECOND);
    a.load("k", Loaded::new(3)).await;
    assert_eq!(b.load("k", Loaded::new(4)).await, 3, "b has a stale one");
}

#[tokio::test]
async fn a_stale_one_in_the_second_level_is_served_instead_of_an_error_and_a_removed_one_is_not() {
    let fleet = Fleet::new();
    let stale = CachePolicy::builder()
        .jitter_percent(0)
        .ttl(2 * SECOND)
        .stale_if_error(100 * SECOND)
        .build()
        .unwrap();
    let a = fleet.with(stale.clone(), false);
    a.load("k", Loaded::new(1)).await;
    fleet.hand.advance(3 * SECOND);
    let b = fleet.with(stale.clone(), false);
    let loader = |_| async { Err::<u32, _>(io::Error::other("the source is down")) };
    let served = b.cache.serve_or_load("k", loader).await.unwrap();
    assert_eq!(served.outcome(), CacheOutcome::StaleIfError);
    assert_eq!(served.into_value(), Some(1));
    a.cache.expire("k").await;
    assert_eq!(fleet.with(stale.clone(), false).fail("k").await, Some(1));
    a.cache.invalidate("k").await;
    assert_eq!(fleet.with(stale, false).fail("k").await, None);
}

#[tokio::test]
async fn ca_17_ca_19_what_was_missed_while_all_was_away_is_made_up_for() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    assert_eq!((a.get().await, b.get().await), (10, 10));
    fleet.shelf.set_down(true);
    fleet.source.store(30, SeqCst);
    a.events.lock().unwrap().clear();
    b.cache.put("k", 30_u32).await;
    // The bus is there, and is told nothing while the store does not have it.
    tokio::time::sleep(line().beat * 5).await;
    assert_eq!((a.get().await, b.get().await), (10, 30));
    assert!(!a.heard(|event| *event == EventKind::Invalidated));
    assert_eq!(b.cache.owed(), 1);
    assert!(b.heard(|event| matches!(event, EventKind::Owed { debts: 1, .. })));
    fleet.shelf.set_down(false);
    a.shows(30).await;
    b.shows(30).await;
    b.pays().await;
    // And with the bus away, and the store there.
    fleet.bus.set_away(true);
    fleet.source.store(40, SeqCst);
    b.cache.put("k", 40_u32).await;
    assert_eq!(b.get().await, 40);
    assert_eq!(b.cache.owed(), 1);
    fleet.bus.set_away(false);
    a.shows(40).await;
    b.pays().await;
    assert_eq!(b.get().await, 40);
}

#[tokio::test]
async fn what_an_instance_owes_it_does_not_believe() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.with(policy(), false), fleet.with(policy(), false));
    a.load("k", Loaded::new(1).tags(["t"])).await;
    fleet.shelf.set_down(true);
    a.cache.invalidate("k").await;
    fleet.shelf.set_down(false);
    // Its task may have paid by now; either way it is not what it was.
    assert_eq!(a.load("k", Loaded::new(2).tags(["t"])).await, 2);
    a.pays().await;
    assert_eq!(b.load("k", Loaded::new(3)).await, 3);
    fleet.shelf.set_down(true);
    a.cache.invalidate_tag("t").await;
    a.cache.clear().await;
    assert_eq!(a.load("k", Loaded::new(4)).await, 4);
    fleet.shelf.set_down(false);
    a.pays().await;
    assert_eq!(a.cache.owed(), 0);
}

#[tokio::test]
async fn an_invalidation_that_is_dropped_on_its_way_is_finished() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    a.get().await;
    b.get().await;
    fleet.source.store(20, SeqCst);
    let mut invalidation = Box::pin(a.cache.invalidate("k"));
    // Polled once: it is begun here, and has not been told.
    let polled = invalidation.as_mut().now_or_never();
    drop(invalidation);
    assert!(polled.is_none(), "it waits for the bus");
    assert_eq!(a.get().await, 20);
    b.shows(20).await;
    a.pays().await;
}

/// What was paid for the key while a write was under way, was paid before it was done.
#[tokio::test]
async fn a_write_that_is_dropped_after_it_was_done_reaches_the_others() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.instance().await, fleet.instance().await);
    for dropped in [true, false] {
        let before = b.get().await;
        let go_on = Arc::new(Notify::new());
        let (waits, source) = (Arc::clone(&go_on), Arc::clone(&fleet.source));
        let write = move || async move {
            waits.notified().await;
            let value = source.fetch_add(1, SeqCst) + 1;
            if dropped {
                std::future::pending::<()>().await;
            }
            Ok::<_, io::Error>(value)
        };
        let mut writing = Box::pin(a.cache.write_through("k", write));
        assert!(writing.as_mut().now_or_never().is_none());
        a.cache.invalidate("k").await;
        assert_eq!(b.get().await, before, "nothing is written yet");
        go_on.notify_one();
        if dropped {
            assert!(writing.as_mut().now_or_never().is_none());
            drop(writing);
        } else {
            assert_eq!(writing.await.unwrap(), Some(before + 1));
        }
        assert_eq!(a.get().await, before + 1);
        b.shows(before + 1).await;
        a.pays().await;
    }
}

#[tokio::test]
async fn many_keys_are_one_trip_and_one_call_for_the_missing_ones() {
    let fleet = Fleet::new();
    let a = fleet.with(policy(), false);
    a.load("k1", Loaded::new(1)).await;
    a.load("k2", Loaded::new(2)).await;
    let b = fleet.with(policy(), false);
    let before = fleet.shelf.trips.load(SeqCst);
    let calls = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&calls);
    let loader = move |missing: Vec<&'static str>| async move {
        counts.fetch_add(1, SeqCst);
        assert_eq!(missing, ["k3", "k4"]);
        Ok::<_, io::Error>(vec![("k3", 3_u32), ("k4", 4)])
    };
    let keys = ["k1", "k3", "k2", "k4"];
    let found = b.cache.get_many_or_load(keys, loader).await.unwrap();
    assert_eq!(found, [Some(1), Some(3), Some(2), Some(4)]);
    assert_eq!(calls.load(SeqCst), 1);
    let trips = fleet.shelf.trips.load(SeqCst) - before;
    assert_eq!(trips, 1 + 2, "one to read them all, and a fill for each");
    // All of them are there now, for a third as well: nothing is called.
    let c = fleet.with(policy(), false);
    let loader = |missing: Vec<&'static str>| async move {
        Err::<Vec<(&'static str, u32)>, _>(io::Error::other(format!("{missing:?}")))
    };
    let found = c.cache.get_many_or_load(keys, loader).await.unwrap();
    assert_eq!(found, [Some(1), Some(3), Some(2), Some(4)]);
}

#[tokio::test]
async fn without_a_bus_an_entry_is_looked_at_again_soon() {
    let fleet = Fleet::new();
    let make = || {
        let second = SecondLevel::new(fleet.shelf.clone(), framing());
        let second = second.staleness(SECOND).unwrap();
        Cache::<u32>::builder("fleet", policy())
            .clock(fleet.clock.clone())
            .second_level(second)
            .build()
    };
    let (a, b) = (make(), make());
    let load = async |cache: &Cache<u32>, value| {
        let loader = move || async move { Ok::<_, io::Error>(value) };
        cache.get_or_load("k", loader).await.unwrap()
    };
    assert_eq!(load(&a, 1).await, 1);
    assert_eq!(load(&b, 0).await, 1);
    a.invalidate("k").await;
    assert_eq!(load(&a, 2).await, 2);
    fleet.hand.advance(SECOND - Duration::from_millis(1));
    assert_eq!(
        load(&b, 0).await,
        1,
        "nobody told it, and it is within the bound"
    );
    fleet.hand.advance(Duration::from_millis(1));
    assert_eq!(load(&b, 0).await, 2);
}

/// A flight that began long ago is not joined by who cannot know whether it was overtaken.
#[tokio::test]
async fn a_deaf_instance_joins_no_old_flight() {
    let fleet = Fleet::new();
    let second = SecondLevel::new(fleet.shelf.clone(), framing());
    let second = second.staleness(SECOND).unwrap();
    let cache = Cache::<u32>::builder("fleet", policy())
        .clock(fleet.clock.clone())
        .second_level(second)
        .build();
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
    let slow = cache.clone();
    let slow = tokio::spawn(async move {
        let loader = move || async move {
            told.notify_one();
            waits.notified().await;
            Ok::<_, io::Error>(1_u32)
        };
        slow.get_or_load("k", loader).await.unwrap()
    });
    begun.notified().await;
    fleet.hand.advance(SECOND + Duration::from_millis(1));
    let loader = || async { Ok::<_, io::Error>(2_u32) };
    assert_eq!(cache.get_or_load("k", loader).await.unwrap(), 2);
    go_on.notify_one();
    assert_eq!(slow.await.unwrap(), 1);
    assert_eq!(cache.get("k").await, Some(2), "the older one is not kept");
}

#[tokio::test]
async fn what_is_not_ours_is_missed_and_told() {
    let fleet = Fleet::new();
    let key = Key::new("5:fleet,k").unwrap();
    let record = Record {
        bytes: b"anybody's",
        fresh: 10 * SECOND,
        life: 10 * SECOND,
    };
    stored(&fleet, &key, record).await;
    let a = fleet.with(policy(), false);
    assert_eq!(a.load("k", Loaded::new(1)).await, 1);
    assert!(a.heard(|event| matches!(event, EventKind::Unreadable { .. })));
    let b = fleet.with(policy(), false);
    assert_eq!(b.load("k", Loaded::new(2)).await, 1, "it was replaced");
}

#[tokio::test]
async fn two_caches_on_one_store_do_not_meet() {
    let fleet = Fleet::new();
    let make = |name: &'static str| {
        let second = SecondLevel::new(fleet.shelf.clone(), framing());
        Cache::<u32>::builder(name, policy())
            .clock(fleet.clock.clone())
            .second_level(second)
            .build()
    };
    let (one, two) = (make("a"), make("a:b"));
    one.put("b:c", 1_u32).await;
    two.put("c", 2_u32).await;
    two.clear().await;
    assert_eq!(make("a").get("b:c").await, Some(1));
    assert_eq!(make("a:b").get("c").await, None);
}
