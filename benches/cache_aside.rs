//! What a hit and a miss cost, beside quick_cache, moka, foyer and cached, on one thread and on two that contend;
//! what a hit allocates; and what a thousand callers of one key cost, also when their load fails. What bare
//! quick_cache and one reading of the clock cost together is the limit of a hit.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]
#![allow(clippy::disallowed_methods, reason = "threads are timed by hand")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::doc_markdown,
    reason = "what cannot be set up cannot be measured; figures are printed"
)]

use std::{
    alloc::System,
    convert::Infallible,
    hint::black_box,
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress_cache_aside::{Cache, CachePolicy};
use buttress_core::Clock;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::future::join_all;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Value = Arc<[u8; 64]>;
type Bare = quick_cache::sync::Cache<String, Value>;
type Moka = moka::future::Cache<String, Value>;
type Foyer = foyer_memory::Cache<String, Value>;

const CAPACITY: usize = 200_000;

/// Who is measured: by name.
type Contender<'c> = (&'c str, Box<dyn Fn(u64) + Sync + 'c>);

/// All contenders in turns, in samples of some hundred calls; the medians, and what a call allocates. So a busy
/// machine disturbs all of them alike, and a sample that was interrupted counts for nothing.
fn row(name: &str, calls: u64, contenders: &[Contender<'_>]) {
    let at = AtomicU64::new(0);
    let sample = |call: &(dyn Fn(u64) + Sync)| {
        let first = at.fetch_add(calls, Relaxed);
        let begun = Instant::now();
        (first..first + calls).for_each(call);
        begun.elapsed().as_nanos() as f64 / calls as f64
    };
    let mut one: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    let mut two = one.clone();
    for _ in 0..201 {
        for (samples, (_, call)) in one.iter_mut().zip(contenders) {
            samples.push(sample(call));
        }
    }
    let allocations: Vec<_> = contenders
        .iter()
        .map(|(_, call)| {
            let region = Region::new(ALLOCATOR);
            sample(call);
            region.change().allocations as f64 / calls as f64
        })
        .collect();
    for (samples, (_, call)) in two.iter_mut().zip(contenders) {
        let start = Barrier::new(2);
        let run = || {
            let mut times = Vec::new();
            for _ in 0..101 {
                start.wait();
                times.push(sample(call));
            }
            times
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(run);
            let times = run();
            let both = times.into_iter().zip(other.join().unwrap());
            samples.extend(both.map(|(one, other)| one.max(other)));
        });
    }
    let median = |samples: &mut Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    };
    let (first, second) = (median(&mut one[0]), median(&mut two[0]));
    println!("\n{name:<40} 1 thread            2 threads           allocations");
    for (at, (who, _)) in contenders.iter().enumerate() {
        let (single, double) = (median(&mut one[at]), median(&mut two[at]));
        println!(
            "  {who:<38} {single:>7.1} ns ({:>5.2})  {double:>7.1} ns ({:>5.2})  {:.2}",
            single / first,
            double / second,
            allocations[at],
        );
    }
}

/// What is ready at once, without a runtime's turns.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it does not wait"),
    }
}

fn ours(clock: Clock) -> Cache<Value> {
    let policy = CachePolicy::builder()
        .capacity(CAPACITY as u64)
        .ttl(Duration::from_secs(3600));
    Cache::builder("bench", policy.build().unwrap())
        .clock(clock)
        .build()
}

fn value() -> Value {
    Arc::new([7; 64])
}

async fn load() -> Result<Value, Infallible> {
    Ok(value())
}

#[cached::macros::cached(max_size = 200_000, key = "String", convert = r#"{ key.to_owned() }"#)]
fn by_cached(key: &str) -> Value {
    black_box(key);
    value()
}

/// One of keys that are all there, at random, or the one.
fn hits(name: &str, keys: &[String], pick: impl Fn(u64) -> usize + Sync + Copy) {
    let [tokio, quanta] = [Clock::tokio(), Clock::quanta()];
    let ticked = Clock::ticked(Duration::from_millis(1)).unwrap();
    let bare = Bare::new(CAPACITY);
    let caches = [&tokio, &quanta, &ticked].map(|clock| ours(clock.clone()));
    let moka = Moka::new(CAPACITY as u64);
    let foyer: Foyer = foyer_memory::CacheBuilder::new(CAPACITY).build();
    for key in keys {
        bare.insert(key.clone(), value());
        caches.iter().for_each(|cache| now(cache.put(key, value())));
        now(moka.insert(key.clone(), value()));
        foyer.insert(key.clone(), value());
        by_cached(key);
    }
    let key = |at: u64| keys[pick(at)].as_str();
    let (bare, moka, foyer) = (&bare, &moka, &foyer);
    let [by_tokio, by_quanta, by_ticks] = &caches;
    let get = |cache: &'_ Cache<Value>, at| {
        black_box(now(cache.get(key(at))));
    };
    let get_or_load = |cache: &'_ Cache<Value>, at| {
        black_box(now(cache.get_or_load(key(at), load)).unwrap());
    };
    let with_clock = |clock: &'_ Clock, at| {
        black_box((bare.get(key(at)), clock.now()));
    };
    row(
        name,
        500,
        &[
            (
                "quick_cache get",
                Box::new(move |at| {
                    black_box(bare.get(key(at)));
                }),
            ),
            (
                "quick_cache get + tokio's clock",
                Box::new(|at| with_clock(&tokio, at)),
            ),
            (
                "quick_cache get + quanta's clock",
                Box::new(|at| with_clock(&quanta, at)),
            ),
            ("ours, get, tokio's clock", Box::new(|at| get(by_tokio, at))),
            (
                "ours, get_or_load, tokio's clock",
                Box::new(|at| get_or_load(by_tokio, at)),
            ),
            (
                "ours, get_or_load, quanta's clock",
                Box::new(|at| get_or_load(by_quanta, at)),
            ),
            (
                "ours, get_or_load, ticked clock",
                Box::new(|at| get_or_load(by_ticks, at)),
            ),
            (
                "moka get",
                Box::new(move |at| {
                    black_box(now(moka.get(key(at))));
                }),
            ),
            (
                "moka try_get_with_by_ref",
                Box::new(move |at| {
                    black_box(now(moka.try_get_with_by_ref(key(at), load())).unwrap());
                }),
            ),
            (
                "foyer get",
                Box::new(move |at| {
                    black_box(foyer.get(key(at)).map(|entry| Arc::clone(entry.value())));
                }),
            ),
            (
                "cached macro",
                Box::new(move |at| {
                    black_box(by_cached(key(at)));
                }),
            ),
        ],
    );
}

fn hit(_: &mut Criterion) {
    let keys: Vec<_> = (0..100_000)
        .map(|key| format!("product:{key:08}"))
        .collect();
    hits("hit, one hot key", &keys[..1], |_| 0);
    // A walk that the prefetcher does not guess.
    hits("hit, 100,000 keys at random", &keys, |at| {
        usize::try_from(at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).unwrap() % 100_000
    });
}

/// Keys that were never seen: the value is there at once, so what is left is the cache's own work.
fn miss(_: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let bare = Bare::new(CAPACITY);
    let timed = ours(Clock::quanta());
    let policy = CachePolicy::builder()
        .capacity(CAPACITY as u64)
        .no_hard_timeout();
    let untimed = Cache::<Value>::builder("bench", policy.build().unwrap())
        .clock(Clock::quanta())
        .build();
    let moka = Moka::new(CAPACITY as u64);
    let handle = runtime.handle();
    let fresh = AtomicU64::new(0);
    let key = || format!("product:{:016}", fresh.fetch_add(1, Relaxed));
    row(
        "miss, and the load is ready",
        200,
        &[
            (
                "quick_cache get_or_insert_async",
                Box::new(|_| {
                    black_box(now(bare.get_or_insert_async(key().as_str(), load())).unwrap());
                }),
            ),
            (
                "ours, no hard timeout",
                Box::new(|_| {
                    black_box(now(untimed.get_or_load(key(), load)).unwrap());
                }),
            ),
            (
                "ours, a hard timeout",
                Box::new(|_| {
                    let _entered = handle.enter();
                    black_box(now(timed.get_or_load(key(), load)).unwrap());
                }),
            ),
            (
                "moka try_get_with",
                Box::new(|_| {
                    black_box(now(moka.try_get_with(key(), load())).unwrap());
                }),
            ),
        ],
    );
}

/// A thousand callers of one key at once, and what the slowest waits.
fn stampede(_: &mut Criterion) {
    const CALLERS: usize = 1_000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let loads = Arc::new(AtomicU64::new(0));
    let counted = |fails: bool| {
        let loads = Arc::clone(&loads);
        move || async move {
            loads.fetch_add(1, Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
            if fails {
                Err(std::io::Error::other("planted"))
            } else {
                Ok(value())
            }
        }
    };
    for (what, fails) in [("brings a value", false), ("fails", true)] {
        println!("\n1,000 callers of one key whose load takes 5 ms and {what}");
        let show = |who: &str, round: &dyn Fn() -> Duration| {
            loads.store(0, Relaxed);
            let mut times: Vec<_> = (0..5).map(|_| round()).collect();
            times.sort();
            let each = loads.load(Relaxed) as f64 / 5.0;
            println!("  {who:<30} {each:>6.0} loads, {:>8.2?}", times[2]);
        };
        let ours = ours(Clock::quanta());
        show("ours", &|| {
            now(ours.clear());
            time(&runtime, CALLERS, || {
                let (cache, loader) = (ours.clone(), counted(fails));
                async move { cache.get_or_load("key", loader).await.is_ok() }
            })
        });
        let moka = Moka::new(CAPACITY as u64);
        show("moka try_get_with", &|| {
            runtime.block_on(moka.invalidate("key"));
            time(&runtime, CALLERS, || {
                let (cache, loader) = (moka.clone(), counted(fails));
                async move { cache.try_get_with("key".to_owned(), loader()).await.is_ok() }
            })
        });
        let bare = Arc::new(Bare::new(CAPACITY));
        // Where it fails, its waiters try one after another: a tenth of them is enough to see it.
        let callers = if fails { CALLERS / 10 } else { CALLERS };
        let who = if fails {
            "quick_cache, 100 callers"
        } else {
            "quick_cache get_or_insert"
        };
        show(who, &|| {
            bare.clear();
            time(&runtime, callers, || {
                let (cache, loader) = (Arc::clone(&bare), counted(fails));
                async move { cache.get_or_insert_async("key", loader()).await.is_ok() }
            })
        });
    }
}

fn time<F>(runtime: &tokio::runtime::Runtime, callers: usize, call: impl Fn() -> F) -> Duration
where
    F: Future<Output = bool> + Send + 'static,
{
    runtime.block_on(async {
        let begun = Instant::now();
        let calls: Vec<_> = (0..callers).map(|_| tokio::spawn(call())).collect();
        black_box(join_all(calls).await);
        begun.elapsed()
    })
}

criterion_group!(benches, hit, miss, stampede);
criterion_main!(benches);
