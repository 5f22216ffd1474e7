//! CA2, CA3: one load for all processes, by a lease in Redis; and its holder killed, stopped, and Redis gone.

use std::{env, io, sync::Arc, time::Duration};

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use buttress_cache_aside::{
    Cache, CachePolicy, LeasePolicy, SecondLevel,
    codec::{Framing, Postcard, Schema},
    store::RedisStore,
};
use buttress_core::Clock;
use buttress_store::{Gate, RedisConnection};
use buttress_testkit::{
    child::{self, Child},
    redis::Server,
};

/// Longer than anything takes on a loaded machine: who waits for so long has waited for the bound and nothing else.
const WAIT: Duration = Duration::from_secs(100);
const TERM: Duration = Duration::from_secs(2);

/// It gives up by itself only what is lost: a machine that stands still for a moment is no fault here.
async fn connection(url: &str) -> RedisConnection {
    let patient = ConnectionManagerConfig::new()
        .set_response_timeout(Some(WAIT))
        .set_connection_timeout(Some(WAIT));
    let client = ::redis::Client::open(url).unwrap();
    let manager = ConnectionManager::new_with_config(client, patient);
    RedisConnection::new(manager.await.unwrap())
}

/// No operation is slow enough here to be given up: what fails is what the test makes fail.
async fn cache(url: &str) -> Cache<u64> {
    let store = RedisStore::with_prefix(connection(url).await, "one-load").unwrap();
    let framing = Framing::new(Postcard::new(), Schema::new("u64", 1).unwrap());
    let lease = LeasePolicy {
        term: TERM,
        wait: WAIT,
        ceiling: Duration::from_secs(600),
    };
    let second = SecondLevel::new(store, framing)
        .gate(
            Gate::redis()
                .with_deadline(Duration::from_secs(20))
                .unwrap(),
        )
        .one_load(lease)
        .unwrap();
    let policy = CachePolicy::builder()
        .ttl(Duration::from_secs(600))
        .hard_timeout(Duration::from_secs(300));
    Cache::builder("one-load", policy.build().unwrap())
        .second_level(second)
        .build()
}

/// A Redis that is the source: it counts loads, and holds them up.
struct Source(RedisConnection);

impl Source {
    async fn at(url: &str) -> Self {
        Self(connection(url).await)
    }

    async fn ask<T: ::redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = ::redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.0.clone()).await.unwrap()
    }

    async fn loads(&self) -> u64 {
        let loads: Option<u64> = self.ask(&["GET", "loads"]).await;
        loads.unwrap_or(0)
    }

    async fn release(&self, who: &str) {
        let _: () = self.ask(&["SET", &format!("release:{who}"), "1"]).await;
    }

    /// The number of this load, once somebody lets it go on.
    async fn load(&self, who: &str, role: &child::Role) -> u64 {
        let number: u64 = self.ask(&["INCR", "loads"]).await;
        role.announce("loading", &number.to_string());
        loop {
            let names = [format!("release:{who}"), "release:all".to_owned()];
            let released: u64 = self.ask(&["EXISTS", &names[0], &names[1]]).await;
            if released > 0 {
                return number;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_load_role() {
    let Some(role) = child::role("one_load") else {
        return;
    };
    let variable = |name: &str| env::var(name).unwrap();
    let source = Source::at(&variable("LOAD_SOURCE")).await;
    let cache = cache(&variable("LOAD_CACHE")).await;
    let who = variable("LOAD_WHO");
    role.announce("ready", "");
    role.wait_at("asks");
    let role = Arc::new(role);
    let says = Arc::clone(&role);
    let loader = move || async move { Ok::<_, io::Error>(source.load(&who, &says).await) };
    let value = cache.get_or_load("k", loader).await.unwrap();
    role.announce("got", &value.to_string());
    // What it gives back, it gives back in a task of its own.
    role.wait_at("done");
}

struct Fleet {
    source: Source,
    source_server: Server,
    redis: Server,
}

impl Fleet {
    async fn start() -> Option<Self> {
        let (source_server, redis) = (Server::start().ok()?, Server::start().ok()?);
        let source = Source::at(&source_server.url()).await;
        Some(Self {
            source,
            source_server,
            redis,
        })
    }

    /// A process that is about to ask.
    async fn process(&self, who: &str) -> Child {
        let mut child = Child::role("one_load", "one_load::one_load_role")
            .environment("LOAD_SOURCE", self.source_server.url())
            .environment("LOAD_CACHE", self.redis.url())
            .environment("LOAD_WHO", who)
            .spawn();
        child.until("ready").await;
        child.until("asks").await;
        child
    }

    /// One that has begun its load.
    async fn holder(&self) -> Child {
        let mut holder = self.process("holder").await;
        holder.go_on();
        assert_eq!(holder.until("loading").await, "1");
        holder
    }
}

async fn got(child: &mut Child) -> u64 {
    child.until("got").await.parse().unwrap()
}

#[tokio::test]
async fn ca2_of_several_processes_that_miss_at_once_one_loads() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut processes = Vec::new();
    for who in ["a", "b", "c", "d"] {
        processes.push(fleet.process(who).await);
    }
    processes.iter_mut().for_each(Child::go_on);
    buttress_testkit::eventually("one loads", Duration::from_secs(60), async || {
        (fleet.source.loads().await > 0).then_some(())
    })
    .await;
    fleet.source.release("all").await;
    for process in &mut processes {
        assert_eq!(got(process).await, 1);
    }
    assert_eq!(fleet.source.loads().await, 1);
}

#[tokio::test]
async fn ca3_a_holder_that_is_killed_is_followed_by_one_other_within_a_term() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut holder = fleet.holder().await;
    let mut waiters = [fleet.process("b").await, fleet.process("c").await];
    waiters.iter_mut().for_each(Child::go_on);
    let clock = Clock::tokio();
    let killed = clock.now();
    holder.kill();
    buttress_testkit::eventually("the next one loads", Duration::from_secs(60), async || {
        (fleet.source.loads().await == 2).then_some(())
    })
    .await;
    fleet.source.release("all").await;
    for waiter in &mut waiters {
        assert_eq!(got(waiter).await, 2, "one of them loads for both");
    }
    assert_eq!(fleet.source.loads().await, 2);
    // A term, and what a loaded machine takes; and far from the time that one would wait at most.
    let took = clock.now().saturating_since(killed);
    assert!(took < WAIT / 2, "{took:?}");
}

#[tokio::test]
async fn ca1_a_holder_that_was_stopped_and_wakes_overwrites_nothing() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut holder = fleet.holder().await;
    holder.stop();
    let mut next = fleet.process("b").await;
    next.go_on();
    assert_eq!(next.until("loading").await, "2", "its term is over");
    fleet.source.release("b").await;
    assert_eq!(got(&mut next).await, 2);
    // And then it is changed as well, and loaded anew.
    let here = cache(&fleet.redis.url()).await;
    here.invalidate("k").await;
    let loader = || async { Ok::<_, io::Error>(3_u64) };
    assert_eq!(here.get_or_load("k", loader).await.unwrap(), 3);
    fleet.source.release("holder").await;
    holder.resume();
    assert_eq!(got(&mut holder).await, 1, "his callers came before that");
    holder.until("done").await;
    let looked = cache(&fleet.redis.url()).await;
    assert_eq!(looked.get("k").await, Some(3));
}

#[tokio::test]
async fn ca4_when_redis_dies_everybody_loads_and_nobody_waits_for_the_bound() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let mut holder = fleet.holder().await;
    let mut waiters = [fleet.process("b").await, fleet.process("c").await];
    let clock = Clock::tokio();
    let begun = clock.now();
    waiters.iter_mut().for_each(Child::go_on);
    fleet.redis.kill();
    for waiter in &mut waiters {
        waiter.until("loading").await;
    }
    let took = clock.now().saturating_since(begun);
    assert!(took < WAIT / 2, "{took:?}");
    fleet.source.release("all").await;
    for waiter in &mut waiters {
        assert!(got(waiter).await > 1);
    }
    assert_eq!(got(&mut holder).await, 1);
    assert_eq!(fleet.source.loads().await, 3);
}
