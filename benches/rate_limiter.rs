//! What a decision costs, beside governor and ratelimit, on one thread and on two that contend; and how many bytes a key takes. Two threads are measured by a loop of our own: each does as many calls, and the time
//! of the slower one counts.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]
#![allow(clippy::disallowed_methods, reason = "two threads are timed by hand")]
#![allow(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "figures are printed"
)]

use std::{
    alloc::System,
    hint::black_box,
    num::NonZeroU32,
    sync::Barrier,
    time::{Duration, Instant},
};

use buttress_benches::wanted;
use buttress_core::Clock;
use buttress_rate_limiter::{Bandwidth, KeyedRateLimiter, Quota, RateLimiter};
use criterion::{Criterion, criterion_group, criterion_main};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Who is measured: by name.
type Contender<'c> = (&'c str, Box<dyn Fn(u64) + Sync + 'c>);

/// All contenders in turns, in samples of a thousand calls; the medians. So a busy machine disturbs all of
/// them alike, and a sample that was interrupted counts for nothing.
fn row(name: &str, contenders: &[Contender<'_>]) {
    if !wanted(name) {
        return;
    }
    const CALLS: u64 = 1000;
    let mut at = 0;
    let mut one: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    let mut two = one.clone();
    for _ in 0..301 {
        for (samples, (_, call)) in one.iter_mut().zip(contenders) {
            at += CALLS;
            let begun = Instant::now();
            (at..at + CALLS).for_each(call);
            samples.push(begun.elapsed().as_nanos() as f64 / CALLS as f64);
        }
    }
    for (samples, (_, call)) in two.iter_mut().zip(contenders) {
        let start = Barrier::new(2);
        let run = || {
            let mut times = Vec::new();
            for round in 0..201 {
                start.wait();
                let begun = Instant::now();
                (round * CALLS..(round + 5) * CALLS).for_each(call);
                times.push(begun.elapsed().as_nanos() as f64 / (5 * CALLS) as f64);
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
    for (at, (who, _)) in contenders.iter().enumerate() {
        let (single, double) = (median(&mut one[at]), median(&mut two[at]));
        println!(
            "{name}: {who}: 1 thread {single:.1} ns ({:.2}), 2 threads {double:.1} ns ({:.2})",
            single / first,
            double / second
        );
    }
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

fn checks<'c>(name: &'c str, limiter: &'c RateLimiter) -> Contender<'c> {
    let call = |_| {
        black_box(limiter.check().is_allowed());
    };
    (name, Box::new(call))
}

fn direct(_: &mut Criterion) {
    let ticked = Clock::ticked(Duration::from_millis(1)).unwrap();
    let plenty_theirs = governor::Quota::per_second(NonZeroU32::MAX);
    let nothing_theirs = governor::Quota::with_period(Duration::from_secs(86_400)).unwrap();
    for (name, quota, theirs, rate) in [
        ("direct, admits", plenty(), plenty_theirs, 1_000_000_000),
        ("direct, refuses", nothing(), nothing_theirs, 1),
    ] {
        let peer = governors(theirs);
        let other = ratelimit::Ratelimiter::builder(rate)
            .max_tokens(rate)
            .initial_available(if rate == 1 { 0 } else { rate })
            .build()
            .unwrap();
        let clocks = [
            Clock::quanta(),
            Clock::coarse(),
            ticked.clone(),
            Clock::tokio(),
        ];
        let [quanta, coarse, late, tokio] = clocks.map(|clock| ours(quota.clone(), clock));
        row(
            name,
            &[
                (
                    "governor",
                    Box::new(|_| {
                        black_box(peer.check().is_ok());
                    }),
                ),
                checks("ours, quanta", &quanta),
                checks("ours, coarse", &coarse),
                checks("ours, ticked", &late),
                checks("ours, tokio", &tokio),
                (
                    "ratelimit",
                    Box::new(|_| {
                        black_box(other.try_wait().is_ok());
                    }),
                ),
            ],
        );
    }
}

fn keyed(_: &mut Criterion) {
    for keys in [1_u64, 10_000, 1_000_000] {
        if !wanted(&format!("keyed, {keys} keys")) {
            continue;
        }
        // Each key in an order that no cache foresees.
        let key = |at: u64| at.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys;
        // So many at once that all are admitted, and so slow that no key is ever idle: idle ones are
        // swept out here, and what is not there is not looked up.
        let theirs = governor::Quota::with_period(Duration::from_micros(86_400)).unwrap();
        let theirs = theirs.allow_burst(NonZeroU32::new(10_000_000).unwrap());
        let busy = Bandwidth::per_day(1_000_000).burst(10_000_000);
        let peer: DefaultKeyedRateLimiter<u64> = governor::RateLimiter::keyed(theirs);
        let limiter = |trusted: bool, clock: Clock| {
            let builder = KeyedRateLimiter::<u64>::builder("bench", Quota::new(busy).unwrap())
                .max_keys(2_000_000)
                .clock(clock);
            let builder = if trusted {
                builder.trusted_keys()
            } else {
                builder
            };
            builder.build().unwrap()
        };
        let (hostile, trusted) = (
            limiter(false, Clock::quanta()),
            limiter(true, Clock::quanta()),
        );
        let coarse = limiter(true, Clock::coarse());
        let sized = KeyedRateLimiter::<u64>::builder("bench", Quota::new(busy).unwrap())
            .max_keys(2 * usize::try_from(keys).unwrap())
            .clock(Clock::quanta())
            .trusted_keys()
            .build()
            .unwrap();
        let fixed = |trusted: bool| {
            let builder = KeyedRateLimiter::<u64>::builder("bench", Quota::new(busy).unwrap())
                .max_keys(usize::try_from(keys).unwrap())
                .fixed_memory()
                .clock(Clock::quanta());
            let builder = if trusted {
                builder.trusted_keys()
            } else {
                builder
            };
            builder.build().unwrap()
        };
        let (places, trusted_places) = (fixed(false), fixed(true));
        for at in 0..keys {
            let _made = (
                peer.check_key(&at).is_ok(),
                hostile.check(&at),
                trusted.check(&at),
                coarse.check(&at),
                sized.check(&at),
                places.check(&at),
                trusted_places.check(&at),
            );
        }
        println!(
            "keyed, {keys} keys: fixed memory forgot {} and {}",
            places.forgotten(),
            trusted_places.forgotten()
        );
        row(
            &format!("keyed, {keys} keys"),
            &[
                (
                    "governor",
                    Box::new(|at| {
                        black_box(peer.check_key(&key(at)).is_ok());
                    }),
                ),
                (
                    "ours",
                    Box::new(|at| {
                        black_box(hostile.check(&key(at)).is_allowed());
                    }),
                ),
                (
                    "ours, trusted keys",
                    Box::new(|at| {
                        black_box(trusted.check(&key(at)).is_allowed());
                    }),
                ),
                (
                    "ours, trusted, sized",
                    Box::new(|at| {
                        black_box(sized.check(&key(at)).is_allowed());
                    }),
                ),
                (
                    "ours, fixed memory",
                    Box::new(|at| {
                        black_box(places.check(&key(at)).is_allowed());
                    }),
                ),
                (
                    "ours, fixed, trusted",
                    Box::new(|at| {
                        black_box(trusted_places.check(&key(at)).is_allowed());
                    }),
                ),
                (
                    "ours, trusted keys, coarse",
                    Box::new(|at| {
                        black_box(coarse.check(&key(at)).is_allowed());
                    }),
                ),
            ],
        );
    }
}

fn bytes(_: &mut Criterion) {
    if !wanted("bytes") {
        return;
    }
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
        let limiter = KeyedRateLimiter::<u64>::builder("bytes", hour())
            .max_keys(2_000_000)
            .build()
            .unwrap();
        (0..million).for_each(|key| assert!(limiter.check(&key).is_allowed()));
        assert_eq!(limiter.forgotten(), 0);
        held.push(Box::new(limiter));
    });
    let both = used(&mut || {
        let quota = hour().and(Bandwidth::per_day(1000)).unwrap();
        let limiter = KeyedRateLimiter::<u64>::builder("bytes", quota)
            .max_keys(2_000_000)
            .build()
            .unwrap();
        (0..million).for_each(|key| assert!(limiter.check(&key).is_allowed()));
        held.push(Box::new(limiter));
    });
    let fixed = used(&mut || {
        let limiter = KeyedRateLimiter::<u64>::builder("bytes", hour())
            .max_keys(1_000_000)
            .fixed_memory()
            .build()
            .unwrap();
        (0..million).for_each(|key| assert!(limiter.check(&key).is_allowed()));
        println!("fixed memory forgot {} of a million", limiter.forgotten());
        held.push(Box::new(limiter));
    });
    println!(
        "bytes a key at a million (u64): governor {peer:.1}, ours {own:.1}, two bandwidths {both:.1}, \
         fixed memory {fixed:.1}"
    );
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
    targets = direct, keyed, bytes
}
criterion_main!(benches);
