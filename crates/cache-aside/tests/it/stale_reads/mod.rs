//! CA1: a checker of stale reads. Readers and writers in several processes, each behind a proxy that cuts, holds back
//! and delays, on a Redis that is flushed, killed and stopped; a source that is a second Redis, whose clock says what
//! came before what.
//!
//! What is claimed, of a read that begins at `t`:
//!
//! - it shows no less than what its own process had written and invalidated before,
//! - nor less than what any process had, by `t` less the bound on staleness, if that was told to all;
//! - nor what was overwritten longer ago than an entry lives.

mod planted;

use std::{
    collections::{HashMap, HashSet},
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use buttress_cache_aside::{
    Cache, CachePolicy, Loaded, SecondLevel,
    bus::{LinePolicy, RedisBus},
    codec::{Framing, Postcard, Schema},
    store::RedisStore,
};
use buttress_core::Clock;
use buttress_store::{Gate, RedisConnection};
use buttress_testkit::{
    child::{self, Child},
    proxy::{Proxy, Way},
    redis::Server,
    seed::Seed,
    tier::short_or_long,
};
use rand::{RngExt as _, rngs::StdRng};

use self::planted::Planted;
use crate::stores::redis_connection;

const KEYS: usize = 3;
const PROCESSES: usize = 3;
const STALENESS: Duration = Duration::from_millis(300);
const LIFE: Duration = Duration::from_secs(2);
/// A loader is held up for at most so long between the source and the cache.
const LOAD: u64 = 60;

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Whoever fills is let.
    Unfenced,
    /// What others say is not heard, and nobody notices.
    Deaf,
}

/// The source: versions of each key, and when which was told to all.
#[derive(Clone)]
struct Source(RedisConnection);

impl Source {
    /// Whoever is stopped for a while still gets his answers: here nothing is to fail.
    async fn at(url: &str) -> Self {
        let client = ::redis::Client::open(url).unwrap();
        let patient = ConnectionManagerConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None);
        let manager = ConnectionManager::new_with_config(client, patient);
        Self(RedisConnection::new(manager.await.unwrap()))
    }

    async fn ask<T: ::redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = ::redis::cmd(words[0]);
        command.arg(&words[1..]);
        let mut connection = self.0.clone();
        command.query_async(&mut connection).await.unwrap()
    }

    /// Microseconds of its clock.
    async fn now(&self) -> u64 {
        let (seconds, micros): (u64, u64) = self.ask(&["TIME"]).await;
        seconds * 1_000_000 + micros
    }

    async fn version(&self, key: usize) -> u64 {
        let version: Option<u64> = self.ask(&["GET", &format!("source:{key}")]).await;
        version.unwrap_or(0)
    }

    async fn write(&self, key: usize) -> u64 {
        let version: u64 = self.ask(&["INCR", &format!("source:{key}")]).await;
        self.note("written", key, version).await;
        version
    }

    async fn note(&self, what: &str, key: usize, version: u64) {
        let (at, version) = (self.now().await.to_string(), version.to_string());
        // The first time counts, and it is noted after the fact.
        let words = ["ZADD", &format!("{what}:{key}"), "NX", &at, &version];
        let _: u64 = self.ask(&words).await;
    }

    /// The highest version that was noted by then.
    async fn noted(&self, what: &str, key: usize, by: u64) -> u64 {
        let words = [
            "ZRANGEBYSCORE",
            &format!("{what}:{key}"),
            "-inf",
            &by.to_string(),
        ];
        let versions: Vec<u64> = self.ask(&words).await;
        versions.into_iter().max().unwrap_or(0)
    }
}

/// One process of the fleet.
struct Process {
    source: Source,
    cache: Cache<u64>,
    proxy: Proxy,
    /// What this process has written and invalidated, of each key.
    own: [AtomicU64; KEYS],
    reads: AtomicUsize,
    bound: u64,
}

impl Process {
    async fn start(bug: Bug) -> Self {
        let variable = |name: &str| env::var(name).unwrap();
        let source = Source::at(&variable("STALE_SOURCE")).await;
        let (proxy, url) = Proxy::before(&variable("STALE_CACHE")).await.unwrap();
        let connection = redis_connection(&url).await;
        let client = ::redis::Client::open(url).unwrap();
        let bus = RedisBus::new(client, connection.clone(), "stale").unwrap();
        let store = RedisStore::with_prefix(connection, "stale").unwrap();
        let framing = Framing::new(Postcard::new(), Schema::new("u64", 1).unwrap());
        let line = LinePolicy {
            beat: Duration::from_millis(40),
            silence: Duration::from_millis(400),
            deadline: Duration::from_millis(150),
        };
        let gate = Gate::redis().with_deadline(line.deadline).unwrap();
        let gate = gate.with_longest_pause(Duration::from_secs(1)).unwrap();
        let second = SecondLevel::new(Planted::new(store, bug), framing)
            .gate(gate)
            .staleness(STALENESS)
            .unwrap()
            .bus(Planted::new(bus, bug), line)
            .unwrap();
        let policy = CachePolicy::builder().ttl(LIFE).jitter_percent(0);
        let cache = Cache::builder("stale", policy.build().unwrap())
            .second_level(second)
            .build();
        let micros = if bug == Bug::None {
            STALENESS
        } else {
            STALENESS * 2
        };
        Self {
            source,
            cache,
            proxy,
            own: Default::default(),
            reads: AtomicUsize::new(0),
            bound: u64::try_from(micros.as_micros()).unwrap(),
        }
    }

    async fn read(&self, key: usize, hold: u64, tagged: bool) -> Result<(), String> {
        let began = self.source.now().await;
        let own = self.own[key].load(SeqCst);
        let source = self.source.clone();
        let loader = move |_| async move {
            let version = source.version(key).await;
            tokio::time::sleep(Duration::from_millis(hold)).await;
            let loaded = Loaded::new(version);
            let tags = tagged.then(|| format!("tag:{key}"));
            Ok::<_, std::io::Error>(loaded.tags(tags))
        };
        let served = self.cache.serve_or_load(name(key), loader).await.unwrap();
        let outcome = served.outcome();
        let shown = served.into_value().unwrap();
        self.reads.fetch_add(1, SeqCst);
        if shown < own {
            return Err(format!("{key}: {shown}, after {own} was written here"));
        }
        let by = began.saturating_sub(self.bound);
        let told = self.source.noted("told", key, by).await;
        if shown < told {
            return Err(format!(
                "{key}: {shown}, after {told} was told to all ({outcome:?})"
            ));
        }
        // Its life, the load before it, and what a stopped process or a proxy can hold up between the two.
        let life = LIFE + Duration::from_millis(LOAD) + Duration::from_secs(4);
        let by = began.saturating_sub(u64::try_from(life.as_micros()).unwrap());
        let written = self.source.noted("written", key, by).await;
        if shown < written {
            return Err(format!(
                "{key}: {shown}, long after {written} ({outcome:?})"
            ));
        }
        Ok(())
    }

    async fn write(&self, key: usize, how: u8) {
        let name = name(key);
        let version = match how {
            0 => {
                let write = || async { Ok::<_, std::io::Error>(self.source.write(key).await) };
                self.cache
                    .write_through(&name, write)
                    .await
                    .unwrap()
                    .unwrap()
            }
            how => {
                let version = self.source.write(key).await;
                match how {
                    1 => self.cache.expire(&name).await,
                    2 => self.cache.clear().await,
                    3 => self.cache.invalidate_after_commit(&name).fire(),
                    _ => self.cache.invalidate(&name).await,
                }
                version
            }
        };
        self.own[key].fetch_max(version, SeqCst);
        // What is owed by nobody is with the store, and was told.
        if self.cache.owed() == 0 {
            self.source.note("told", key, version).await;
        }
    }

    /// Keys that only one process writes are put as well: two who put may cross.
    async fn put(&self, key: usize) {
        let version = self.source.write(key).await;
        self.cache.put(name(key), version).await;
        self.own[key].fetch_max(version, SeqCst);
        if self.cache.owed() == 0 {
            self.source.note("told", key, version).await;
        }
    }

    async fn disturb(&self, rng: &mut StdRng) {
        match rng.random_range(0..8_u8) {
            0 => self.proxy.cut().await,
            1 => self.proxy.black_hole(Way::ToClient),
            2 => self.proxy.black_hole(Way::ToServer),
            3 => {
                let by = Duration::from_millis(rng.random_range(1..80));
                self.proxy.delay(Way::ToClient, by);
            }
            4 => {
                self.proxy
                    .cut_after(Way::ToServer, rng.random_range(0..2000));
            }
            _ => self.proxy.heal().await.unwrap(),
        }
    }
}

fn name(key: usize) -> String {
    format!("key {key}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_writes_role() {
    let Some(role) = child::role("reads_and_writes") else {
        return;
    };
    let variable = |name: &str| env::var(name).unwrap();
    let bug = match variable("STALE_BUG").as_str() {
        "Unfenced" => Bug::Unfenced,
        "Deaf" => Bug::Deaf,
        _ => Bug::None,
    };
    let me: usize = variable("STALE_ME").parse().unwrap();
    let time = Duration::from_secs(variable("STALE_SECONDS").parse().unwrap());
    let seed = Seed::from(variable("STALE_SEED").parse::<u64>().unwrap());
    let process = Arc::new(Process::start(bug).await);
    role.announce("ready", "");
    let mut tasks = tokio::task::JoinSet::new();
    let mut rng = seed.rng();
    for _ in 0..3 {
        let (process, mut rng) = (Arc::clone(&process), Seed::from(rng.random::<u64>()).rng());
        tasks.spawn(async move {
            loop {
                let key = rng.random_range(0..KEYS);
                let (hold, tagged) = (rng.random_range(0..LOAD), rng.random());
                process.read(key, hold, tagged).await?;
                let pause = Duration::from_millis(rng.random_range(0..4));
                tokio::time::sleep(pause).await;
            }
        });
    }
    let (writes, mut chance) = (Arc::clone(&process), Seed::from(rng.random::<u64>()).rng());
    tasks.spawn(async move {
        loop {
            // The first key is the first process's own.
            let key = chance.random_range(0..KEYS);
            match (key, me) {
                (0, 0) => writes.put(0).await,
                (0, _) => {}
                (key, _) => writes.write(key, chance.random_range(0..8)).await,
            }
            let pause = Duration::from_millis(chance.random_range(5..120));
            tokio::time::sleep(pause).await;
        }
    });
    // A planted bug is looked for in fair weather.
    if bug == Bug::None {
        let disturbs = Arc::clone(&process);
        tasks.spawn(async move {
            loop {
                disturbs.disturb(&mut rng).await;
                let pause = Duration::from_millis(rng.random_range(50..400));
                tokio::time::sleep(pause).await;
            }
        });
    }
    let over = tokio::time::sleep(time);
    tokio::pin!(over);
    let found: Option<String> = tokio::select! {
        ended = tasks.join_next() => {
            let ended: Result<Result<(), String>, _> = ended.unwrap();
            let found = ended.unwrap().err();
            // All end together, for the parent stops and wakes them.
            over.as_mut().await;
            found
        }
        () = &mut over => None,
    };
    let reads = process.reads.load(SeqCst);
    role.announce("reads", &reads.to_string());
    role.announce("verdict", found.as_deref().unwrap_or("none"));
}

async fn disturb(redis: &Server, children: &mut HashMap<usize, Child>, how: u8) {
    let flush = async |words: &[&str]| {
        let mut plain = redis_connection(&redis.url()).await;
        let mut flush = ::redis::cmd(words[0]);
        flush.arg(&words[1..]);
        let _flushed: Result<(), _> = flush.query_async(&mut plain).await;
    };
    match how {
        0 => {
            redis.kill();
            redis.restart().unwrap();
        }
        1 => {
            // It stands still, and nobody is told.
            let child = children.values_mut().next().unwrap();
            child.stop();
            tokio::time::sleep(Duration::from_millis(700)).await;
            child.resume();
        }
        2 => flush(&["SCRIPT", "FLUSH"]).await,
        _ => flush(&["FLUSHALL"]).await,
    }
}

/// Runs a fleet for so long; what was found, and how much was read.
async fn fleet(bug: Bug, seconds: u64) -> (HashSet<String>, usize) {
    let (Ok(source), Ok(redis)) = (Server::start(), Server::start()) else {
        return (HashSet::new(), usize::MAX);
    };
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut children: HashMap<usize, Child> = HashMap::new();
    for me in 0..PROCESSES {
        let child = Child::role("reads_and_writes", "stale_reads::reads_and_writes_role")
            .environment("STALE_SOURCE", source.url())
            .environment("STALE_CACHE", redis.url())
            .environment("STALE_BUG", format!("{bug:?}"))
            .environment("STALE_ME", me.to_string())
            .environment("STALE_SECONDS", seconds.to_string())
            .environment("STALE_SEED", rng.random::<u64>().to_string())
            .spawn();
        children.insert(me, child);
    }
    for child in children.values_mut() {
        child.until("ready").await;
    }
    // It ends by itself, before the children do: who is stopped is woken again.
    let time = Duration::from_secs(seconds.saturating_sub(3));
    let clock = Clock::tokio();
    let begun = clock.now();
    while bug == Bug::None && clock.now().saturating_since(begun) < time {
        let pause = Duration::from_millis(rng.random_range(300..1500));
        tokio::time::sleep(pause).await;
        disturb(&redis, &mut children, rng.random_range(0..4)).await;
    }
    let (mut found, mut reads) = (HashSet::new(), 0);
    for mut child in children.into_values() {
        reads += child.until("reads").await.parse::<usize>().unwrap();
        let verdict = child.until("verdict").await;
        if verdict != "none" {
            found.insert(verdict);
        }
    }
    (found, reads)
}

/// How often a fleet runs before it is said that it tells nothing: on a slow machine one run has
/// few reads.
const FLEETS: u32 = 10;

#[tokio::test]
async fn ca1_no_read_is_older_than_the_contract() {
    let tally = buttress_testkit::tally::suite("CA1 X5 X9");
    let mut all = 0_usize;
    for _ in 0..FLEETS {
        let (found, reads) = fleet(Bug::None, short_or_long(7, 600)).await;
        assert_eq!(found, HashSet::new());
        all = all.saturating_add(reads);
        if all > 200 {
            return tally.operations(all);
        }
    }
    panic!("too few reads to say anything: {all}");
}

/// Whether the checker finds this bug.
async fn is_found(bug: Bug, seconds: u64) -> bool {
    for _ in 0..FLEETS {
        let (found, reads) = fleet(bug, seconds).await;
        if reads == usize::MAX || !found.is_empty() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn the_checker_finds_a_fill_without_a_fence() {
    let tally = buttress_testkit::tally::suite("CA1");
    assert!(is_found(Bug::Unfenced, 8).await);
    tally.caught(1);
}

#[tokio::test]
async fn the_checker_finds_an_instance_that_hears_nobody() {
    let tally = buttress_testkit::tally::suite("CA1");
    assert!(is_found(Bug::Deaf, 5).await);
    tally.caught(1);
}
