//! What a decision costs, beside governor, ratelimit, leaky-bucket and tower-resilience, on one thread and
//! on two that contend; how many bytes a key takes; and how many decisions a second Redis makes, beside
//! the bare script. Two threads are measured by a loop of our own: each does as many calls, and the time
//! of the slower one counts.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]
#![allow(clippy::disallowed_methods, reason = "two threads are timed by hand")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "what cannot be set up cannot be measured; figures are printed"
)]

use std::{
    alloc::System,
    hint::black_box,
    num::NonZeroU32,
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

use buttress_core::Clock;
use buttress_rate_limiter::{
    Bandwidth, KeyedRateLimiter, Quota, RateLimiter, SharedRateLimiter, WhenDown, store::RedisStore,
};
use buttress_store::{Gate, RedisConnection};
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One thread by criterion, two by hand.
fn both(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, call: impl Fn(u64) + Sync) {
    (0..1000).for_each(&call);
    let mut at = 0_u64;
    group.bench_function(format!("{name}, 1 thread"), |b| {
        b.iter(|| {
            at += 1;
            call(at);
        });
    });
    group.bench_function(format!("{name}, 2 threads"), |b| {
        b.iter_custom(|iterations| {
            let start = Barrier::new(2);
            let run = || {
                start.wait();
                let begun = Instant::now();
                (0..iterations).for_each(&call);
                begun.elapsed()
            };
            std::thread::scope(|scope| {
                let other = scope.spawn(run);
                run().max(other.join().unwrap())
            })
        });
    });
}

/// So fast that it always admits.
fn plenty() -> Quota {
    Quota::new(Bandwidth::per_second(1_000_000_000).burst(1_000_000_000)).unwrap()
}

/// So slow that it always refuses.
fn nothing() -> Quota {
    Quota::new(Bandwidth::per_day(1).burst(1)).unwrap()
}

fn ours(quota: Quota, clock: Clock) -> RateLimiter {
    RateLimiter::builder("bench", quota)
        .clock(clock)
        .build()
        .unwrap()
}

fn governors(quota: governor::Quota) -> DefaultDirectRateLimiter {
    governor::RateLimiter::direct(quota)
}

fn direct(criterion: &mut Criterion) {
    let ticked = Clock::ticked(Duration::from_millis(1)).unwrap();
    for (group, quota, theirs) in [
        (
            "direct, admits",
            plenty(),
            governor::Quota::per_second(NonZeroU32::MAX),
        ),
        (
            "direct, refuses",
            nothing(),
            governor::Quota::with_period(Duration::from_secs(86_400)).unwrap(),
        ),
    ] {
        let mut group = criterion.benchmark_group(group);
        let peer = governors(theirs);
        both(&mut group, "governor", |_| {
            black_box(peer.check().is_ok());
        });
        for (name, clock) in [
            ("ours, quanta", Clock::quanta()),
            ("ours, ticked", ticked.clone()),
            ("ours, tokio", Clock::tokio()),
        ] {
            let limiter = ours(quota.clone(), clock);
            both(&mut group, name, |_| {
                black_box(limiter.check().is_allowed());
            });
        }
        let rate = if quota == plenty() { 1_000_000_000 } else { 1 };
        let peer = ratelimit::Ratelimiter::builder(rate)
            .max_tokens(rate)
            .initial_available(if rate == 1 { 0 } else { rate })
            .build()
            .unwrap();
        both(&mut group, "ratelimit", |_| {
            black_box(peer.try_wait().is_ok());
        });
        group.finish();
    }
}

fn keyed(criterion: &mut Criterion) {
    for keys in [1_u64, 10_000, 1_000_000] {
        let mut group = criterion.benchmark_group(format!("keyed, {keys} keys"));
        // Each key in an order that no cache foresees.
        let key = |at: u64| at.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys;
        let peer: DefaultKeyedRateLimiter<u64> = governor::RateLimiter::keyed(
            governor::Quota::per_second(NonZeroU32::new(100_000).unwrap()),
        );
        let limiter = |trusted: bool| {
            let builder =
                KeyedRateLimiter::<u64>::builder("bench", Quota::per_second(100_000).unwrap())
                    .max_keys(2_000_000)
                    .clock(Clock::quanta());
            let builder = if trusted {
                builder.trusted_keys()
            } else {
                builder
            };
            builder.build().unwrap()
        };
        let (hostile, trusted) = (limiter(false), limiter(true));
        for at in 0..keys {
            let _ = (
                peer.check_key(&at).is_ok(),
                hostile.check(&at),
                trusted.check(&at),
            );
        }
        both(&mut group, "governor", |at| {
            black_box(peer.check_key(&key(at)).is_ok());
        });
        both(&mut group, "ours", |at| {
            black_box(hostile.check(&key(at)).is_allowed());
        });
        both(&mut group, "ours, trusted keys", |at| {
            black_box(trusted.check(&key(at)).is_allowed());
        });
        group.finish();
    }
}

fn bytes(_: &mut Criterion) {
    let million = 1_000_000_u64;
    let used = |make: &mut dyn FnMut()| {
        let region = Region::new(ALLOCATOR);
        make();
        let change = region.change();
        (change.bytes_allocated - change.bytes_deallocated) as f64 / million as f64
    };
    let hour = || Quota::new(Bandwidth::per_hour(100)).unwrap();
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    let peer = used(&mut || {
        let quota = governor::Quota::per_hour(NonZeroU32::new(100).unwrap());
        let limiter: DefaultKeyedRateLimiter<u64> = governor::RateLimiter::keyed(quota);
        (0..million).for_each(|key| assert!(limiter.check_key(&key).is_ok()));
        held.push(Box::new(limiter));
    });
    let own = used(&mut || {
        let limiter = KeyedRateLimiter::<u64>::new("bytes", hour()).unwrap();
        (0..million).for_each(|key| assert!(limiter.check(&key).is_allowed()));
        assert_eq!(limiter.forgotten(), 0);
        held.push(Box::new(limiter));
    });
    let both = used(&mut || {
        let quota = hour().and(Bandwidth::per_day(1000)).unwrap();
        let limiter = KeyedRateLimiter::<u64>::new("bytes", quota).unwrap();
        (0..million).for_each(|key| assert!(limiter.check(&key).is_allowed()));
        held.push(Box::new(limiter));
    });
    println!(
        "bytes a key at a million (u64): governor {peer:.1}, ours {own:.1}, two bandwidths {both:.1}"
    );
}

fn async_peers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut group = criterion.benchmark_group("async, admits");
    let limiter = ours(plenty(), Clock::quanta());
    group.bench_function("ours, until_ready", |b| {
        b.to_async(&runtime)
            .iter(|| async { limiter.until_ready().await.is_ok() });
    });
    let peer = leaky_bucket::RateLimiter::builder()
        .max(1_000_000_000)
        .initial(1_000_000_000)
        .refill(1_000_000_000)
        .interval(Duration::from_millis(100))
        .build();
    group.bench_function("leaky-bucket, acquire_one", |b| {
        b.to_async(&runtime).iter(|| peer.acquire_one());
    });
    group.finish();
    let mut group = criterion.benchmark_group("layer, admits");
    use tower::{Layer as _, Service as _};
    let inner = tower::service_fn(|at: u64| std::future::ready(Ok::<_, std::io::Error>(at)));
    let layer = buttress_rate_limiter::tower::RateLimitLayer::new(limiter.clone());
    let mut service = layer.layer(inner.clone());
    group.bench_function("ours", |b| {
        b.to_async(&runtime).iter(|| service.call(7));
    });
    let layer = tower_resilience_ratelimiter::RateLimiterLayer::builder()
        .limit_for_period(1_000_000_000)
        .refresh_period(Duration::from_millis(100))
        .timeout_duration(Duration::ZERO)
        .build()
        .unwrap();
    let mut service = layer.layer(inner);
    group.bench_function("tower-resilience", |b| {
        b.to_async(&runtime).iter(|| service.call(7));
    });
    group.finish();
}

/// Decisions a second on Redis, by so many tasks.
fn redis(_: &mut Criterion) {
    let Ok(server) = buttress_testkit::redis::Server::start() else {
        println!("no redis-server: left out");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let connection = RedisConnection::new(connection);
        let limiter = |lease: Option<u64>| {
            let quota = Quota::new(Bandwidth::per_second(1_000_000).burst(1_000_000)).unwrap();
            let store = RedisStore::new(connection.clone());
            let name = if lease.is_some() { "leased" } else { "plain" };
            let builder = SharedRateLimiter::builder(name, quota, store)
                .when_down(WhenDown::Closed)
                .clock(Clock::quanta())
                .gate(Gate::sql());
            let builder = match lease {
                Some(slice) => builder.lease(slice, Duration::from_secs(1)),
                None => builder,
            };
            builder.build().unwrap()
        };
        // The least that a script can do for a limit: read, write, expire.
        let script = Arc::new(buttress_store::Script::new(
            "local t = redis.call('TIME') local v = redis.call('GET', KEYS[1]) \
             redis.call('SET', KEYS[1], t[1] .. t[2], 'PX', 1000) return {v and 1 or 0, t[1], t[2]}",
        ));
        for tasks in [1_u64, 16, 64, 256] {
            let bare = {
                let (script, connection) = (Arc::clone(&script), connection.clone());
                rate(tasks, move || {
                    let (script, connection) = (Arc::clone(&script), connection.clone());
                    async move {
                        let key = b"bench:{bare}".to_vec();
                        let run = script.run::<(i64, i64, i64)>(&connection, std::slice::from_ref(&key), 0);
                        run.await.unwrap();
                    }
                })
                .await
            };
            let plain = decisions(tasks, limiter(None)).await;
            let leased = decisions(tasks, limiter(Some(1000))).await;
            println!(
                "redis, {tasks} tasks: bare {bare:.0}/s, plain {plain:.0}/s ({:.2}), leased {leased:.0}/s ({:.1})",
                plain / bare,
                leased / bare
            );
        }
    });
}

async fn decisions(tasks: u64, limiter: SharedRateLimiter) -> f64 {
    rate(tasks, move || {
        let limiter = limiter.clone();
        async move {
            black_box(limiter.check("hot").await.unwrap().is_allowed());
        }
    })
    .await
}

async fn rate<F>(tasks: u64, call: impl Fn() -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let begun = Instant::now();
    let over = begun + Duration::from_millis(700);
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut calls = 0_u64;
                while Instant::now() < over {
                    call().await;
                    calls += 1;
                    if calls % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.unwrap();
    }
    calls as f64 / begun.elapsed().as_secs_f64()
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .sample_size(20)
}

criterion_group! {
    name = benches;
    config = short();
    targets = direct, keyed, bytes, async_peers, redis
}
criterion_main!(benches);
