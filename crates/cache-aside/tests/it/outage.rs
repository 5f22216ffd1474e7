//! CA4, CA9: Redis gone, black-holed, slow, killed, flushed, full: everything works from the source, in bounded time.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_cache_aside::{
    Cache, CachePolicy, Event, EventKind, SecondLevel,
    bus::{LinePolicy, RedisBus},
    codec::{Framing, Postcard, Schema},
    store::RedisStore,
};
use buttress_core::Clock;
use buttress_store::Gate;
use buttress_testkit::{
    eventually,
    proxy::{Proxy, Way},
    redis::{Server, fresh_prefix},
};

use crate::stores::redis_connection;

const DEADLINE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) cache: Cache<u32>,
    source: Arc<AtomicU32>,
    loads: Arc<AtomicU32>,
    events: Arc<Mutex<Vec<EventKind>>>,
}

pub(crate) async fn node(url: &str, prefix: &str, ttl: Duration) -> Node {
    let connection = redis_connection(url).await;
    let client = ::redis::Client::open(url).unwrap();
    let bus = RedisBus::new(client, connection.clone(), prefix).unwrap();
    let store = RedisStore::with_prefix(connection, prefix).unwrap();
    let framing = Framing::new(Postcard::new(), Schema::new("u32", 1).unwrap());
    let line = LinePolicy {
        beat: Duration::from_millis(50),
        silence: Duration::from_millis(500),
        deadline: DEADLINE,
    };
    let gate = Gate::redis().with_deadline(DEADLINE).unwrap();
    let second = SecondLevel::new(store, framing)
        .gate(gate)
        .staleness(Duration::from_millis(500))
        .unwrap()
        .bus(bus, line)
        .unwrap();
    let events: Arc<Mutex<Vec<EventKind>>> = Arc::default();
    let hears = Arc::clone(&events);
    let policy = CachePolicy::builder().jitter_percent(0).ttl(ttl);
    let cache = Cache::builder("node", policy.build().unwrap())
        .observer(move |event: &Event| hears.lock().unwrap().push(event.kind))
        .second_level(second)
        .build();
    Node {
        cache,
        source: Arc::default(),
        loads: Arc::default(),
        events,
    }
}

impl Node {
    async fn get(&self) -> u32 {
        let (source, loads) = (Arc::clone(&self.source), Arc::clone(&self.loads));
        let loader = move || async move {
            loads.fetch_add(1, SeqCst);
            Ok::<_, io::Error>(source.load(SeqCst))
        };
        self.cache.get_or_load("k", loader).await.unwrap()
    }

    async fn set(&self, value: u32) {
        self.source.store(value, SeqCst);
        self.cache.invalidate("k").await;
    }

    async fn hears(&self) {
        eventually("it hears", PATIENCE, async || {
            self.cache
                .heard_within(Duration::from_millis(400))
                .then_some(())
        })
        .await;
    }

    /// Changes and reads a hundred times, and says how long the longest took, and all.
    async fn works(&self) -> (Duration, Duration) {
        let clock = Clock::tokio();
        let (begun, mut longest) = (clock.now(), Duration::ZERO);
        for value in 0..100 {
            let before = clock.now();
            self.set(value).await;
            assert_eq!(self.get().await, value, "what it wrote itself");
            longest = longest.max(clock.now().saturating_since(before));
        }
        (longest, clock.now().saturating_since(begun))
    }

    /// Back: what is loaded is kept, and what was owed is paid.
    async fn recovers(&self) {
        self.hears().await;
        eventually("it owes nothing", PATIENCE, async || {
            (self.cache.owed() == 0).then_some(())
        })
        .await;
        let known = eventually("it keeps again", PATIENCE, async || {
            self.get().await;
            let loads = self.loads.load(SeqCst);
            self.get().await;
            (loads == self.loads.load(SeqCst)).then_some(())
        });
        known.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca4_a_black_hole_costs_one_deadline_and_everything_works_from_the_source() {
    let _tally = buttress_testkit::tally::suite("CA4 X6");
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let name = prefix.as_str().trim_end_matches(':');
    let (proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let node = node(&url, name, Duration::from_secs(60)).await;
    node.hears().await;
    for way in [Way::ToClient, Way::ToServer] {
        node.get().await;
        proxy.black_hole(way);
        let (longest, whole) = node.works().await;
        // Once the store's deadline, and once the line's, in one change and one read.
        let late = Duration::from_millis(400);
        assert!(longest < DEADLINE * 3 + late, "{longest:?}");
        assert!(whole < DEADLINE * 6 + late * 2, "paid again: {whole:?}");
        let failed = |kind: &EventKind| matches!(kind, EventKind::SecondLevelFailed { .. });
        assert!(node.events.lock().unwrap().iter().any(failed));
        proxy.heal().await.unwrap();
        node.recovers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca4_a_slow_redis_is_left_alone() {
    let _tally = buttress_testkit::tally::suite("CA4");
    let Some(prefix) = fresh_prefix() else {
        return;
    };
    let name = prefix.as_str().trim_end_matches(':');
    let (proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let node = node(&url, name, Duration::from_secs(60)).await;
    node.hears().await;
    proxy.slow(Way::ToClient, 1);
    let (longest, whole) = node.works().await;
    let late = Duration::from_millis(400);
    assert!(longest < DEADLINE * 3 + late, "{longest:?}");
    assert!(whole < DEADLINE * 6 + late * 2, "paid again: {whole:?}");
    proxy.heal().await.unwrap();
    node.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca4_a_killed_redis_comes_back_and_what_was_missed_is_made_up_for() {
    let _tally = buttress_testkit::tally::suite("CA4 X9");
    let Ok(server) = Server::start_appending() else {
        return;
    };
    let (a, b) = (
        node(&server.url(), "killed", Duration::from_secs(60)).await,
        node(&server.url(), "killed", Duration::from_secs(60)).await,
    );
    a.hears().await;
    b.hears().await;
    a.set(1).await;
    b.source.store(1, SeqCst);
    assert_eq!((a.get().await, b.get().await), (1, 1));
    server.kill();
    let (longest, _) = a.works().await;
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    a.set(2).await;
    b.source.store(2, SeqCst);
    assert!(a.cache.owed() > 0);
    // It kept what it had: the log brings the old entry back, and the debt removes it.
    server.restart().unwrap();
    a.recovers().await;
    eventually("the other shows it", PATIENCE, async || {
        (b.get().await == 2).then_some(())
    })
    .await;
    b.recovers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca9_a_flushed_and_a_full_redis_cost_misses_and_nothing_else() {
    let tally = buttress_testkit::tally::suite("CA9 X9");
    let Ok(server) = Server::start() else {
        return;
    };
    let (a, b) = (
        node(&server.url(), "flushed", Duration::from_secs(60)).await,
        node(&server.url(), "flushed", Duration::from_secs(60)).await,
    );
    a.hears().await;
    b.hears().await;
    let mut plain = redis_connection(&server.url()).await;
    let mut command = async |words: &[&str]| {
        let mut command = ::redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async::<()>(&mut plain).await.unwrap();
    };
    for value in 0..60 {
        match value {
            20 => command(&["CONFIG", "SET", "maxmemory", "1"]).await,
            40 => command(&["CONFIG", "SET", "maxmemory", "0"]).await,
            value if value % 3 == 0 => command(&["FLUSHALL"]).await,
            _ => {}
        }
        a.set(value).await;
        b.source.store(value, SeqCst);
        assert_eq!(a.get().await, value);
        eventually("the other shows it", PATIENCE, async || {
            (b.get().await == value).then_some(())
        })
        .await;
    }
    a.recovers().await;
    b.recovers().await;
    tally.operations(60);
}
