//! Many threads at one limiter: never more than the quota, and all of it under load.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use buttress_core::Clock;
use buttress_rate_limiter::{Bandwidth, Carry, KeyedRateLimiter, Quota, RateLimiter};
use buttress_testkit::short_or_long;

/// Four threads, as fast as they can, for so long. When each was admitted, and how long it took in all.
#[expect(
    clippy::disallowed_methods,
    reason = "threads are measured in real time"
)]
fn load(check: impl Fn() -> bool + Send + Sync + 'static) -> (Vec<Duration>, Duration) {
    let time = Duration::from_millis(short_or_long(1_000, 30_000));
    let check = Arc::new(check);
    let barrier = Arc::new(Barrier::new(5));
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (check, barrier, over) =
                (Arc::clone(&check), Arc::clone(&barrier), Arc::clone(&over));
            thread::spawn(move || {
                barrier.wait();
                let mut admitted = Vec::new();
                while !over.load(Relaxed) {
                    if check() {
                        admitted.push(Instant::now());
                    }
                }
                admitted
            })
        })
        .collect();
    barrier.wait();
    let begun = Instant::now();
    thread::sleep(time);
    over.store(true, Relaxed);
    let all = threads.into_iter().flat_map(|it| it.join().unwrap());
    let mut all: Vec<_> = all.map(|at| at - begun).collect();
    all.sort_unstable();
    (all, begun.elapsed())
}

/// No more than `burst + rate * time`, and no less than 99 % of it. The burst is half a second's worth: so
/// long a loaded machine may hold up all four threads, and nothing is lost.
fn judge(admitted: &[Duration], whole: Duration, rate: u32, burst: u32) {
    let count = f64::from(u32::try_from(admitted.len()).unwrap());
    let most = f64::from(burst) + f64::from(rate) * whole.as_secs_f64();
    assert!(count <= most + 1.0, "{count} of {most}");
    let last = admitted.last().unwrap().as_secs_f64();
    let least = 0.99 * (f64::from(burst) + f64::from(rate) * last);
    assert!(count >= least, "{count} of at least {least}");
}

#[test]
fn a_direct_limiter_gives_out_its_quota_to_threads_and_no_more() {
    let quota = Quota::new(Bandwidth::per_second(5_000).burst(2_500)).unwrap();
    let limiter = RateLimiter::new("load", quota).unwrap();
    let (admitted, whole) = load(move || limiter.check().is_allowed());
    judge(&admitted, whole, 5_000, 2_500);
}

#[test]
fn several_bandwidths_under_load_give_out_the_narrower_one() {
    let quota = Quota::per_second(50_000).unwrap();
    let quota = quota
        .and(Bandwidth::per_second(4_000).burst(2_000))
        .unwrap();
    let limiter = RateLimiter::new("load", quota).unwrap();
    let (admitted, whole) = load(move || limiter.check().is_allowed());
    judge(&admitted, whole, 4_000, 2_000);
}

#[test]
fn one_hot_key_gets_its_quota_and_no_more() {
    let quota = Quota::new(Bandwidth::per_second(5_000).burst(2_500)).unwrap();
    let limiter = KeyedRateLimiter::<u64>::new("load", quota).unwrap();
    let (admitted, whole) = load(move || limiter.check(&7).is_allowed());
    judge(&admitted, whole, 5_000, 2_500);
}

#[test]
fn exactly_the_burst_is_given_out_while_the_clock_stands_still() {
    for round in 0..short_or_long(200, 20_000) {
        let (clock, _hand) = Clock::manual();
        let limiter = RateLimiter::builder("burst", Quota::per_second(50).unwrap())
            .clock(clock)
            .build()
            .unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let limiter = limiter.clone();
                thread::spawn(move || (0..25).filter(|_| limiter.check().is_allowed()).count())
            })
            .collect();
        let given: usize = threads.into_iter().map(|it| it.join().unwrap()).sum();
        assert_eq!(given, 50, "round {round}");
    }
}

#[test]
fn quotas_that_change_under_load_never_open_the_gate() {
    let quota = |permits: u64| Quota::new(Bandwidth::per_second(permits).burst(10)).unwrap();
    let limiter = RateLimiter::new("changing", quota(1000)).unwrap();
    let changing = limiter.clone();
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let changes = thread::spawn(move || {
        let mut changes = 0_u32;
        while !until.load(Relaxed) {
            let permits = [1000, 700, 999][usize::try_from(changes % 3).unwrap()];
            changing.set_quota(quota(permits), Carry::AsItIs).unwrap();
            changes += 1;
            thread::yield_now();
        }
        changes
    });
    let (admitted, whole) = load(move || limiter.check().is_allowed());
    over.store(true, Relaxed);
    let changes = changes.join().unwrap();
    // A call that races with a change may be decided by a mixture: one for each thread and change at
    // the very most, and in truth as good as none.
    let most = 10.0 + 1000.0 * whole.as_secs_f64();
    let count = f64::from(u32::try_from(admitted.len()).unwrap());
    assert!(
        count <= most * 1.02 + 4.0,
        "{count} of {most} with {changes} changes"
    );
    assert!(count >= most * 0.6, "{count} of {most}");
}
