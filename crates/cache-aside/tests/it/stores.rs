//! Every store passes the suite, and Redis does what the suite cannot ask.

use std::{sync::Arc, time::Duration};

use buttress_cache_aside::{
    store::{CacheStore as _, Looked, Marked, MemoryStore, Record, RedisStore, Watch},
    testing::conformance,
};
use buttress_store::{Deadline, Key, RedisConnection};
use buttress_testkit::redis;

pub(crate) async fn redis_connection(url: &str) -> RedisConnection {
    let client = ::redis::Client::open(url).unwrap();
    let config = ::redis::aio::ConnectionManagerConfig::new();
    let manager = ::redis::aio::ConnectionManager::new_with_config(client, config);
    RedisConnection::new(manager.await.unwrap())
}

pub(crate) async fn redis_store(prefix: &redis::Prefix) -> RedisStore {
    let connection = redis_connection(prefix.url()).await;
    let prefix = prefix.as_str().trim_end_matches(':');
    RedisStore::with_prefix(connection, prefix).unwrap()
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

pub(crate) fn key(bytes: &str) -> Key {
    Key::new(bytes).unwrap()
}

const fn record(bytes: &[u8]) -> Record<'_> {
    Record {
        bytes,
        fresh: Duration::from_secs(60),
        life: Duration::from_secs(60),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    conformance(Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_conforms() {
    let Some(prefix) = redis::fresh_prefix() else {
        return;
    };
    conformance(Arc::new(redis_store(&prefix).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cluster_conforms() {
    let Ok(cluster) = redis::Cluster::start() else {
        return; // the other tests on Redis say so
    };
    let client = ::redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
    let connection = client.get_async_connection().await.unwrap();
    conformance(Arc::new(RedisStore::new(RedisConnection::new(connection)))).await;
}

/// As an operator permits it who reads the pattern's page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_do_what_the_page_says_may_do_all_that_is_needed() {
    let Ok(server) = redis::Server::start() else {
        return;
    };
    let page = include_str!("../../../../docs/patterns/cache-aside.md");
    let (_, commands) = page.split_once("`RedisStore` needs `").unwrap();
    let (commands, _) = commands.split_once('`').unwrap();
    let mut permit = ::redis::cmd("ACL");
    permit.arg(&["SETUSER", "shop", "on", ">word", "~*", "+@connection"][..]);
    for command in commands.split(' ') {
        permit.arg(format!("+{command}"));
    }
    let mut operator = redis_connection(&server.url()).await;
    permit.query_async::<()>(&mut operator).await.unwrap();
    let url = server.url().replace("redis://", "redis://shop:word@");
    conformance(Arc::new(RedisStore::new(redis_connection(&url).await))).await;
}

#[tokio::test]
async fn a_script_that_redis_forgot_is_sent_again_and_no_key_is_for_ever() {
    let Ok(server) = redis::Server::start() else {
        return;
    };
    let connection = redis_connection(&server.url()).await;
    let store = RedisStore::new(connection.clone());
    let mut plain = connection;
    let (space, tags) = (key("space"), [key("tag")]);
    for round in 0..3 {
        let _: () = ::redis::cmd("SCRIPT")
            .arg("FLUSH")
            .query_async(&mut plain)
            .await
            .unwrap();
        let at = key(&format!("key {round}"));
        let keys = [at.clone(), key("another")];
        let reading = store.read(&keys, None, soon()).await.unwrap();
        let Looked::Missed(missed) = &reading.keys[0] else {
            panic!("it was never filled");
        };
        let filled = store.fill(&at, &missed.token, record(b"value"), soon());
        assert!(filled.await.unwrap());
        store
            .mark(&space, Marked::Tags(&tags), soon())
            .await
            .unwrap();
        store.expire(&[key("nothing")], soon()).await.unwrap();
    }
    let all: Vec<Vec<u8>> = ::redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut plain)
        .await
        .unwrap();
    assert_eq!(all.len(), 5, "three entries, a token, the marks of a space");
    for name in all {
        let left: i64 = ::redis::cmd("PTTL")
            .arg(&name)
            .query_async(&mut plain)
            .await
            .unwrap();
        assert!(left > 0, "{:?} is for ever", String::from_utf8_lossy(&name));
    }
}

#[tokio::test]
async fn marks_of_before_a_flush_are_of_another_epoch() {
    let Ok(server) = redis::Server::start() else {
        return;
    };
    let connection = redis_connection(&server.url()).await;
    let store = RedisStore::new(connection.clone());
    let (space, tags) = (key("space"), [key("tag")]);
    let watch = Watch {
        space: &space,
        tags: &tags,
    };
    let before = store
        .mark(&space, Marked::Tags(&tags), soon())
        .await
        .unwrap();
    let mut plain = connection;
    let _: () = ::redis::cmd("FLUSHALL")
        .query_async(&mut plain)
        .await
        .unwrap();
    let marks = store.marks(watch, soon()).await.unwrap();
    assert!(!marks.allow(before), "what was marked since is not known");
    assert!(marks.allow(marks.now));
}

/// Marks older than any entry are cut off; epoch, floor and sequence are not.
#[tokio::test]
async fn old_marks_go_and_the_count_stays() {
    let Some(prefix) = redis::fresh_prefix() else {
        return;
    };
    let store = redis_store(&prefix).await;
    let store = store.with_longest_life(Duration::from_secs(1)).unwrap();
    let space = key("old marks");
    let (old, new) = ([key("old")], [key("new")]);
    let first = store
        .mark(&space, Marked::Tags(&old), soon())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let second = store
        .mark(&space, Marked::Tags(&new), soon())
        .await
        .unwrap();
    assert_eq!(first.epoch, second.epoch);
    let watch = Watch {
        space: &space,
        tags: &[old[0].clone(), new[0].clone()],
    };
    let marks = store.marks(watch, soon()).await.unwrap();
    assert_eq!(marks.tags, [0, second.sequence]);
    assert!(!marks.allow(first), "its other tag was marked after it");
}

/// A loader may begin before a mark and fill when the mark is as old as entries get: what it brings is dead all the same.
#[tokio::test]
async fn what_was_made_before_a_mark_stays_dead_when_the_mark_is_cut_off() {
    let Some(prefix) = redis::fresh_prefix() else {
        return;
    };
    let store = redis_store(&prefix).await;
    let longest = Duration::from_secs(1);
    let store = store.with_longest_life(longest).unwrap();
    let (space, at) = (key("cut off"), key("filled late"));
    let (old, new) = ([key("old")], [key("new")]);
    let watch = Watch {
        space: &space,
        tags: &old,
    };
    let keys = std::slice::from_ref(&at);
    let mut reading = store.read(keys, Some(watch), soon()).await.unwrap();
    let Looked::Missed(missed) = reading.keys.remove(0) else {
        panic!("it was never filled");
    };
    let begun = reading.marks.unwrap().now;
    store
        .mark(&space, Marked::Tags(&old), soon())
        .await
        .unwrap();
    tokio::time::sleep(longest + Duration::from_millis(100)).await;
    let filled = store.fill(&at, &missed.token, record(b"value"), soon());
    assert!(filled.await.unwrap(), "its token stands");
    store
        .mark(&space, Marked::Tags(&new), soon())
        .await
        .unwrap();
    let marks = store.marks(watch, soon()).await.unwrap();
    assert!(!marks.allow(begun), "{marks:?} of {begun:?}");
    assert!(marks.allow(marks.now));
}

#[tokio::test]
async fn a_full_redis_removes_and_marks_and_stores_nothing() {
    let Ok(server) = redis::Server::start() else {
        return;
    };
    let connection = redis_connection(&server.url()).await;
    let store = RedisStore::new(connection.clone());
    let (space, tags) = (key("space"), [key("tag")]);
    let watch = Watch {
        space: &space,
        tags: &tags,
    };
    let before = store.marks(watch, soon()).await.unwrap();
    let at = key("there");
    let token = store.take_over(&at, soon()).await.unwrap();
    assert!(
        store
            .fill(&at, &token, record(b"value"), soon())
            .await
            .unwrap()
    );
    let mut plain = connection;
    for (name, value) in [("maxmemory-policy", "noeviction"), ("maxmemory", "1")] {
        let _: () = ::redis::cmd("CONFIG")
            .arg("SET")
            .arg(name)
            .arg(value)
            .query_async(&mut plain)
            .await
            .unwrap();
    }
    // A removal makes room for its token; a value gets none.
    let other = key("other");
    let token = store.take_over(&other, soon()).await.unwrap();
    let full = store.fill(&other, &token, record(b"value"), soon()).await;
    assert_eq!(full.unwrap_err().code(), Some("OOM"));
    let keys = std::slice::from_ref(&at);
    let reading = store.read(keys, None, soon()).await.unwrap();
    assert!(matches!(reading.keys[0], Looked::Held(_)));
    store.invalidate(keys, soon()).await.unwrap();
    store
        .mark(&space, Marked::Tags(&tags), soon())
        .await
        .unwrap();
    let _: () = ::redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg(0)
        .query_async(&mut plain)
        .await
        .unwrap();
    let marks = store.marks(watch, soon()).await.unwrap();
    assert!(!marks.allow(before.now), "the mark was not lost");
    let reading = store.read(keys, None, soon()).await.unwrap();
    assert!(matches!(reading.keys[0], Looked::Missed(_)));
}
