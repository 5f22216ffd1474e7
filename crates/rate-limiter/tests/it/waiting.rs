//! Waiting in line: in order, bounded, and nothing lost when somebody goes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Clock, RejectionKind};
use buttress_rate_limiter::{Bandwidth, Carry, KeyedRateLimiter, Quota, RateLimiter};
use buttress_testkit::cancel_sweep;
use futures_util::FutureExt as _;

fn slow(permits: u64, period: Duration) -> RateLimiter {
    let quota = Quota::new(Bandwidth::per(permits, period).burst(1)).unwrap();
    RateLimiter::builder("slow", quota)
        .clock(Clock::tokio())
        .max_waiting(5)
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_came_first_is_served_first() {
    let limiter = slow(1, Duration::from_secs(1));
    assert!(limiter.check().is_allowed());
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..5 {
        let (own, order) = (limiter.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let result = own.until_ready().await;
            order.lock().unwrap().push((number, result.is_ok()));
        }));
        while limiter.waiting() <= number {
            tokio::task::yield_now().await;
        }
    }
    let sixth = limiter.until_ready().await.unwrap_err();
    assert_eq!(sixth.kind(), RejectionKind::RateLimited);
    assert!(
        sixth.retry_after().unwrap() > Duration::from_secs(5),
        "the line is full"
    );
    for task in tasks {
        task.await.unwrap();
    }
    let expected: Vec<_> = (0..5).map(|number| (number, true)).collect();
    assert_eq!(*order.lock().unwrap(), expected);
    assert_eq!(limiter.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_would_take_too_long_is_said_at_once() {
    let limiter = slow(1, Duration::from_secs(10));
    assert!(limiter.check().is_allowed());
    let clock = Clock::tokio();
    let before = clock.now();
    let refused = limiter.until_ready_within(1, Duration::from_secs(9)).await;
    assert_eq!(
        refused.unwrap_err().retry_after(),
        Some(Duration::from_secs(10))
    );
    assert_eq!(clock.now(), before, "nobody slept");
    let never = limiter.until_ready_within(2, Duration::MAX).await;
    assert_eq!(
        never.unwrap_err().retry_after(),
        None,
        "two at once can never be had"
    );
    let waited = limiter.until_ready_within(1, Duration::from_secs(10)).await;
    assert!(waited.is_ok());
}

/// RL8: dropped at every point at which it waits, a waiter takes no permit with him.
#[tokio::test]
async fn rl8_a_waiter_that_goes_at_any_point_loses_no_permit_and_no_place() {
    let _tally = buttress_testkit::tally::suite("RL8 X1");
    let limiter = slow(1, Duration::from_millis(3));
    let ahead = Mutex::new(None);
    let swept = cancel_sweep(
        async || {
            let _taken = limiter.check();
            let own = limiter.clone();
            let first = tokio::spawn(async move { own.until_ready().await.is_ok() });
            *ahead.lock().unwrap() = Some(first);
            tokio::task::yield_now().await;
            limiter.until_ready().await.is_ok()
        },
        async |_point| {
            let first = ahead.lock().unwrap().take().unwrap();
            assert!(first.await.unwrap(), "who is ahead is served");
            assert_eq!(limiter.waiting(), 0, "nobody stands in the line");
            let next = limiter.until_ready_within(1, Duration::from_secs(5)).await;
            assert!(next.is_ok(), "the line moves on");
        },
    )
    .await;
    assert!(swept.points >= 3, "{swept:?}");
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_line_of_its_own_and_all_lines_one_bound() {
    let quota = Quota::new(Bandwidth::per_second(1).burst(1)).unwrap();
    let limiter = KeyedRateLimiter::<String>::builder("keys", quota)
        .max_waiting(2)
        .build()
        .unwrap();
    for key in ["a", "b", "c"] {
        assert!(limiter.check(key).is_allowed());
    }
    let wait = |key: &'static str| {
        let limiter = limiter.clone();
        async move {
            limiter
                .until_ready_within(key, 1, Duration::from_secs(5))
                .await
        }
    };
    let (one, other) = (tokio::spawn(wait("a")), tokio::spawn(wait("b")));
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    assert!(wait("c").await.is_err(), "two wait already");
    assert!(one.await.unwrap().is_ok() && other.await.unwrap().is_ok());
    assert!(wait("c").await.is_ok());
}

#[test]
fn a_thread_can_wait_as_well() {
    let limiter = slow(1, Duration::from_millis(20));
    assert!(limiter.check().is_allowed());
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let limiter = limiter.clone();
            std::thread::spawn(move || {
                let patience = Duration::from_secs(5);
                limiter.until_ready_blocking(1, patience).is_ok()
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    // A slow machine must not find the next permit there already.
    let slower = slow(1, Duration::from_secs(3600));
    assert!(slower.until_ready_blocking(1, Duration::ZERO).is_ok());
    let short = slower.until_ready_blocking(1, Duration::from_millis(1));
    assert!(short.is_err());
}

/// Who finds his permit there stands in no line, and sleeps by no timer: there is none outside a runtime.
#[test]
fn what_is_there_is_taken_without_a_place_unless_somebody_is_in_line() {
    let (clock, hand) = Clock::manual();
    let quota = || Quota::new(Bandwidth::per_hour(1)).unwrap();
    let limiter = RateLimiter::builder("one", quota()).clock(clock.clone());
    let limiter = limiter.max_waiting(1).build().unwrap();
    let keys = KeyedRateLimiter::<u8>::builder("keys", quota()).clock(clock);
    let keys = keys.max_waiting(1).build().unwrap();
    let now = |limiter: &RateLimiter| limiter.until_ready().now_or_never();
    let of_key = |key: u8| {
        let patience = Duration::from_secs(86_400);
        keys.until_ready_within(&key, 1, patience).now_or_never()
    };
    assert!(now(&limiter).unwrap().is_ok());
    assert!(of_key(1).unwrap().is_ok() && of_key(2).unwrap().is_ok());

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let mut first = std::pin::pin!(limiter.until_ready());
    let mut first_of_key = std::pin::pin!(keys.until_ready_within(&1, 1, Duration::MAX));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(first_of_key.as_mut().now_or_never().is_none());
    hand.advance(Duration::from_secs(3600));
    // The permits are there, and theirs who wait.
    assert!(now(&limiter).unwrap().is_err(), "the line is full");
    assert!(of_key(1).unwrap().is_err(), "the lines are full");
    // Nobody waits for those of another key.
    assert!(of_key(2).unwrap().is_ok());
    assert!(of_key(2).unwrap().is_err(), "from now on he would wait");
}

/// Whoever was told to come back in an hour, and then there is more.
async fn is_served(
    what: &str,
    waits: impl Future<Output = bool> + Send + 'static,
    more: impl Fn(),
) {
    let waits = tokio::spawn(waits);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished(), "{what}");
    more();
    let served = tokio::time::timeout(Duration::from_secs(60), waits).await;
    assert!(served.expect(what).unwrap(), "{what}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_when_there_is_more_than_he_was_told_of() {
    let faster = || Quota::per_second(10).unwrap();
    for what in ["quota", "given back", "reservation", "shadow"] {
        let limiter = slow(1, Duration::from_secs(3600));
        let held = limiter.reserve(1, Duration::ZERO).unwrap();
        let held = std::cell::Cell::new(Some(held));
        let own = limiter.clone();
        let waits = async move { own.until_ready().await.is_ok() };
        is_served(what, waits, || match what {
            "quota" => limiter.set_quota(faster(), Carry::AsItIs).unwrap(),
            "given back" => limiter.give_back(1),
            "reservation" => drop(held.take()),
            _ => limiter.set_shadow(true),
        })
        .await;
    }
    for fixed in [false, true] {
        for what in ["quota", "given back", "reset", "shadow"] {
            let quota = Quota::new(Bandwidth::per_hour(1)).unwrap();
            let keys = KeyedRateLimiter::<u8>::builder("keys", quota).clock(Clock::tokio());
            let keys = if fixed { keys.fixed_memory() } else { keys };
            let keys = keys.build().unwrap();
            assert!(keys.check(&1).is_allowed());
            let own = keys.clone();
            let waits = async move { own.until_ready_within(&1, 1, Duration::MAX).await.is_ok() };
            is_served(what, waits, || match what {
                "quota" if fixed => keys.give_back(&1, 1),
                "quota" => keys.set_quota(faster(), Carry::AsItIs).unwrap(),
                "given back" => keys.give_back(&1, 1),
                "reset" => keys.reset(&1),
                _ => keys.set_shadow(true),
            })
            .await;
        }
    }
}

#[test]
fn a_thread_that_waits_is_served_when_there_is_more_than_it_was_told_of() {
    let limiter = slow(1, Duration::from_secs(86_400));
    assert!(limiter.check().is_allowed());
    let (says, heard) = std::sync::mpsc::channel();
    let own = limiter.clone();
    std::thread::spawn(move || {
        let served = own.until_ready_blocking(1, Duration::from_secs(90_000));
        says.send(served.is_ok()).unwrap();
    });
    while limiter.waiting() == 0 {
        std::thread::yield_now();
    }
    limiter.give_back(1);
    assert_eq!(heard.recv_timeout(Duration::from_secs(120)), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_ready_at_its_time_and_given_back_when_it_is_dropped() {
    let limiter = slow(1, Duration::from_secs(1));
    let clock = Clock::tokio();
    limiter.reserve(1, Duration::ZERO).unwrap().ready().await;
    let begun = clock.now();
    let later = limiter.reserve(1, Duration::from_secs(1)).unwrap();
    assert!(limiter.reserve(1, Duration::from_secs(1)).is_err());
    drop(later);
    limiter
        .reserve(1, Duration::from_secs(1))
        .unwrap()
        .ready()
        .await;
    assert!(clock.now().saturating_since(begun) >= Duration::from_secs(1));
    let window = Quota::new(Bandwidth::per_second(1).sliding_log()).unwrap();
    let log = RateLimiter::new("log", window).unwrap();
    log.reserve(1, Duration::ZERO).unwrap().keep();
    assert!(log.reserve(1, Duration::MAX).is_err(), "a log owes nothing");
}
