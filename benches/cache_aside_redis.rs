//! What an entry from the second level costs, beside a bare GET of the same bytes on the same connection: alone, and
//! with 64 callers at once. What a miss costs, with one load for all instances and without, and how many then load. All contenders in turns, so that a busy machine disturbs all of them alike; the medians.
//!
//! A private Redis on the loopback, over TCP.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "times are taken by hand; what cannot be set up cannot be measured; figures are printed"
)]

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use buttress_cache_aside::{
    Cache, CachePolicy, LeasePolicy, SecondLevel,
    codec::{Framing, Postcard, Schema},
    store::{CacheStore as _, RedisStore},
};
use buttress_store::{Deadline, Key, RedisConnection};
use buttress_testkit::redis::Server;
use futures_util::future::join_all;

/// A thing to be measured: by name.
type Contender<'c> = (
    &'static str,
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + 'c>> + 'c>,
);

const ROUNDS: usize = 61;
const CALLS: u32 = 200;

async fn table(what: &str, contenders: &[Contender<'_>], at_once: usize) {
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (samples, (_, call)) in samples.iter_mut().zip(contenders) {
            let begun = Instant::now();
            if at_once == 1 {
                for _ in 0..CALLS {
                    call().await;
                }
            } else {
                for _ in 0..CALLS / 32 {
                    join_all((0..at_once).map(|_| call())).await;
                }
            }
            let calls = if at_once == 1 {
                CALLS as usize
            } else {
                CALLS as usize / 32 * at_once
            };
            samples.push(begun.elapsed().as_nanos() as f64 / calls as f64);
        }
    }
    let medians: Vec<f64> = samples
        .iter_mut()
        .map(|samples| {
            samples.sort_by(f64::total_cmp);
            samples[ROUNDS / 2]
        })
        .collect();
    println!("{what}");
    for ((name, _), median) in contenders.iter().zip(&medians) {
        let ratio = median / medians[0];
        println!("  {name:<40} {:>8.1} us  {ratio:.2}", median / 1000.0);
    }
}

async fn measure() {
    let server = Server::start().unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let plain = client.get_multiplexed_async_connection().await.unwrap();
    let connection = RedisConnection::new(plain.clone());
    let store = RedisStore::new(connection);
    let make = || {
        let framing = Framing::new(Postcard::new(), Schema::new("bench", 1).unwrap());
        let policy = CachePolicy::builder().ttl(Duration::from_secs(3600));
        Cache::<Vec<u8>>::builder("bench", policy.build().unwrap())
            .second_level(SecondLevel::new(store.clone(), framing))
            .build()
    };
    let value = vec![b'v'; 500];
    make().put("key", value).await;
    // It keeps nothing, so each of its reads goes to the second level.
    let reader = make();
    assert_eq!(reader.get("key").await.map(|it| it.len()), Some(500));
    let key = Key::new(b"5:bench,key").unwrap();
    let whole = b"buttress:cache_aside:{5:bench,key}";
    let contenders: Vec<Contender<'_>> = vec![
        (
            "bare GET",
            Box::new(|| {
                let mut plain = plain.clone();
                Box::pin(async move {
                    let mut get = redis::cmd("GET");
                    let bytes: Vec<u8> = get.arg(whole).query_async(&mut plain).await.unwrap();
                    assert!(bytes.len() > 500);
                })
            }),
        ),
        (
            "bare PTTL and GET in one write",
            Box::new(|| {
                let mut plain = plain.clone();
                Box::pin(async move {
                    let mut both = redis::pipe();
                    both.cmd("PTTL").arg(whole).cmd("GET").arg(whole);
                    let (_, bytes): (i64, Vec<u8>) = both.query_async(&mut plain).await.unwrap();
                    assert!(bytes.len() > 500);
                })
            }),
        ),
        (
            "RedisStore::read",
            Box::new(|| {
                Box::pin(async {
                    let deadline = Deadline::after(Duration::from_secs(5));
                    let keys = std::slice::from_ref(&key);
                    store.read(keys, None, deadline).await.unwrap();
                })
            }),
        ),
        (
            "Cache::get from it, marks included",
            Box::new(|| {
                Box::pin(async {
                    assert!(reader.get("key").await.is_some());
                })
            }),
        ),
    ];
    table("one caller, each read after the other", &contenders, 1).await;
    table("64 callers at once, for each read", &contenders, 64).await;
    misses(&store, &plain).await;
    fleet(&store).await;
}

fn instance(store: &RedisStore, lease: bool) -> Cache<Vec<u8>> {
    let framing = Framing::new(Postcard::new(), Schema::new("bench", 1).unwrap());
    let second = SecondLevel::new(store.clone(), framing);
    let second = match lease {
        true => second.one_load(LeasePolicy::default()).unwrap(),
        false => second,
    };
    Cache::builder("missed", CachePolicy::default())
        .second_level(second)
        .build()
}

/// What a key that nobody has costs, when the load itself takes no time: with a lease, and without.
async fn misses(store: &RedisStore, plain: &redis::aio::MultiplexedConnection) {
    let fresh = AtomicUsize::new(0);
    let key = || format!("key {}", fresh.fetch_add(1, Relaxed));
    let (without, with) = (instance(store, false), instance(store, true));
    let load = || async { Ok::<_, Infallible>(vec![b'v'; 500]) };
    let (key, without, with) = (&key, &without, &with);
    let contenders: Vec<Contender<'_>> = vec![
        (
            "bare GET of nothing, then SET",
            Box::new(|| {
                let mut plain = plain.clone();
                Box::pin(async move {
                    let key = key();
                    let mut get = redis::cmd("GET");
                    let none: Option<Vec<u8>> =
                        get.arg(&key).query_async(&mut plain).await.unwrap();
                    assert!(none.is_none());
                    let mut set = redis::cmd("SET");
                    set.arg(&key).arg(vec![b'v'; 600]).arg("PX").arg(60_000);
                    set.query_async::<()>(&mut plain).await.unwrap();
                })
            }),
        ),
        (
            "a miss, without a lease",
            Box::new(move || {
                Box::pin(async move {
                    without.get_or_load(key(), load).await.unwrap();
                })
            }),
        ),
        (
            "a miss, with one load for the fleet",
            Box::new(move || {
                Box::pin(async move {
                    with.get_or_load(key(), load).await.unwrap();
                })
            }),
        ),
    ];
    table("a miss, one caller", &contenders, 1).await;
    table("a miss, 64 callers of 64 keys at once", &contenders, 64).await;
}

/// Many instances miss one key at once, whose load takes a while: how many load, and when the last one has it.
async fn fleet(store: &RedisStore) {
    const INSTANCES: usize = 32;
    let loads = Arc::new(AtomicUsize::new(0));
    for takes in [20, 200].map(Duration::from_millis) {
        println!("{INSTANCES} instances miss a key at once, whose load takes {takes:?}");
        for lease in [false, true] {
            let caches: Vec<_> = (0..INSTANCES).map(|_| instance(store, lease)).collect();
            let mut times = Vec::new();
            loads.store(0, Relaxed);
            for round in 0..15 {
                let key = format!("fleet {takes:?} {lease} {round}");
                let asked = caches.iter().map(|cache| {
                    let loads = Arc::clone(&loads);
                    cache.get_or_load(&key, move || async move {
                        loads.fetch_add(1, Relaxed);
                        tokio::time::sleep(takes).await;
                        Ok::<_, Infallible>(vec![b'v'; 500])
                    })
                });
                let begun = Instant::now();
                join_all(asked).await;
                times.push(begun.elapsed());
            }
            times.sort();
            let each = loads.load(Relaxed) as f64 / 15.0;
            let who = if lease { "with a lease" } else { "without" };
            println!(
                "  {who:<40} {each:>5.1} loads, the last has it after {:.1?}",
                times[7]
            );
        }
    }
}

fn main() {
    // `cargo test --benches` and `cargo bench -- --list` want no figures.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(measure());
}
