//! Many threads at one limiter: never more than the quota, and all of it under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use buttress_core::Clock;
use buttress_rate_limiter::{Bandwidth, Carry, KeyedRateLimiter, Quota, RateLimiter};
use buttress_testkit::short_or_long;

/// Four threads, as fast as they can, on a clock that moves on a millisecond whenever many more have asked
/// than it gives permits: so they are a load, however busy the machine is. How many were admitted, and in
/// how many milliseconds.
fn load(check: impl FnOnce(Clock) -> Box<dyn Fn() -> bool + Send + Sync>) -> (u64, u64) {
    let (clock, hand) = Clock::manual();
    let check: Arc<dyn Fn() -> bool + Send + Sync> = check(clock).into();
    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (check, over, asked) = (Arc::clone(&check), Arc::clone(&over), Arc::clone(&asked));
            thread::spawn(move || {
                let mut admitted = 0_u64;
                while !over.load(Relaxed) {
                    admitted += u64::from(check());
                    asked.fetch_add(1, Relaxed);
                }
                admitted
            })
        })
        .collect();
    let millis = short_or_long(200, 30_000);
    for _ in 0..millis {
        let before = asked.load(Relaxed);
        while asked.load(Relaxed) < before + 40 {
            thread::yield_now();
        }
        hand.advance(Duration::from_millis(1));
    }
    over.store(true, Relaxed);
    let admitted = threads.into_iter().map(|it| it.join().unwrap()).sum();
    (admitted, millis)
}

/// No more than `burst + rate * time`, and no less than 99 % of it.
fn judge((admitted, millis): (u64, u64), rate: u64, burst: u64) {
    let most = burst + rate * millis / 1000;
    assert!(admitted <= most, "{admitted} of {most}");
    assert!(admitted * 100 >= most * 99, "{admitted} of {most}");
}

fn direct(quota: Quota) -> (u64, u64) {
    load(|clock| {
        let limiter = RateLimiter::builder("load", quota).clock(clock).build();
        let limiter = limiter.unwrap();
        Box::new(move || limiter.check().is_allowed())
    })
}

#[test]
fn a_direct_limiter_gives_out_its_quota_to_threads_and_no_more() {
    let quota = Quota::new(Bandwidth::per_second(20_000).burst(100)).unwrap();
    judge(direct(quota), 20_000, 100);
}

#[test]
fn several_bandwidths_under_load_give_out_the_narrower_one() {
    let quota = Quota::per_second(50_000).unwrap();
    let quota = quota.and(Bandwidth::per_second(10_000).burst(50)).unwrap();
    judge(direct(quota), 10_000, 50);
}

#[test]
fn one_hot_key_gets_its_quota_and_no_more() {
    let quota = Quota::new(Bandwidth::per_second(20_000).burst(100)).unwrap();
    let given = load(|clock| {
        let limiter = KeyedRateLimiter::<u64>::builder("load", quota)
            .clock(clock)
            .build();
        let limiter = limiter.unwrap();
        Box::new(move || limiter.check(&7).is_allowed())
    });
    judge(given, 20_000, 100);
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
    let tally = buttress_testkit::tally::suite("RL1");
    let quota = |permits: u64| Quota::new(Bandwidth::per_second(permits).burst(10)).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let mut changes = None;
    let (admitted, millis) = load(|clock| {
        let limiter = RateLimiter::builder("changing", quota(1000))
            .clock(clock)
            .build();
        let limiter = limiter.unwrap();
        let changing = limiter.clone();
        changes = Some(thread::spawn(move || {
            let mut changes = 0_usize;
            while !until.load(Relaxed) {
                let permits = [1000, 700, 999][changes % 3];
                changing.set_quota(quota(permits), Carry::AsItIs).unwrap();
                changes += 1;
                thread::yield_now();
            }
            changes
        }));
        Box::new(move || limiter.check().is_allowed())
    });
    over.store(true, Relaxed);
    let changes = changes.unwrap().join().unwrap();
    // A call that races with a change may be decided by a mixture of both: as good as none is.
    let most = 10 + millis;
    assert!(
        admitted * 100 <= most * 102,
        "{admitted} of {most} with {changes} changes"
    );
    assert!(
        admitted * 10 >= most * 6,
        "{admitted} of {most} with {changes} changes"
    );
    tally.operations(admitted);
}

/// Planted bugs: three percent too much, and three percent too little.
#[test]
fn the_judge_of_a_load_catches_too_much_and_too_little() {
    let tally = buttress_testkit::tally::suite("RL1");
    let judged = |admitted| std::panic::catch_unwind(move || judge((admitted, 10_000), 1000, 100));
    assert!(judged(10_100).is_ok());
    assert!(judged(10_400).is_err() && judged(9_800).is_err());
    tally.caught(2);
}
