//! Several instances that share a second level: what one changes, the others do not overlook.

mod bounds;
mod lease;
mod lease_faults;
mod told;
mod vectors;

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
        CacheStore, FillToken, Leased, LoadClaim, Looked, Marked, Marks, MemoryStore, Missed,
        Reading, Record, Stamp, Watch,
    },
};
use buttress_core::{Clock, clock::ManualHand};
use buttress_store::{Deadline, Gate, Key, Phase, StoreError, StoreErrorKind};
use buttress_testkit::eventually;
use futures_util::FutureExt as _;
use tokio::sync::Notify;

use crate::stand::SECOND;

const PATIENCE: Duration = Duration::from_secs(20);

/// Says that a read was answered, and waits before it hands the answer on.
type Hold = (Arc<Notify>, Arc<Notify>);

/// A store that can be taken away, and held up before it answers a read.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub(crate) store: Arc<MemoryStore>,
    down: Arc<Mutex<Option<StoreErrorKind>>>,
    trips: Arc<AtomicUsize>,
    hold: Arc<Mutex<Option<Hold>>>,
    /// How long it takes to say who loads.
    slow: Arc<Mutex<Duration>>,
}

impl Shelf {
    fn new(clock: Clock) -> Self {
        Self {
            store: Arc::new(MemoryStore::with_clock(clock)),
            down: Arc::default(),
            trips: Arc::default(),
            hold: Arc::default(),
            slow: Arc::default(),
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

    async fn lease(
        &self,
        key: &Key,
        claim: &LoadClaim,
        term: Duration,
        deadline: Deadline,
    ) -> Result<Leased, StoreError> {
        self.up()?;
        let slow = *self.slow.lock().unwrap();
        tokio::time::sleep(slow).await;
        self.store.lease(key, claim, term, deadline).await
    }

    async fn let_go(
        &self,
        key: &Key,
        claim: &LoadClaim,
        open: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.up()?;
        self.store.let_go(key, claim, open, deadline).await
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
        self.ask("k", Loaded::new).await
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
