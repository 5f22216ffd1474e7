//! So many at once: bounded, fair, nothing lost; and the limit that follows latencies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_core::{CallError, Clock, RejectionKind};
use buttress_rate_limiter::{ConcurrencyLimiter, Gradient2, ProgressiveDelay};
use buttress_testkit::cancel_sweep;

#[tokio::test(start_paused = true)]
async fn never_more_at_once_than_there_are_places() {
    let limiter = ConcurrencyLimiter::builder("database", 3)
        .max_waiting(100)
        .max_wait(Duration::from_secs(60))
        .build()
        .unwrap();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (limiter, running, most) =
                (limiter.clone(), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let work = async {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    running.fetch_sub(1, SeqCst);
                    Ok::<_, std::io::Error>(())
                };
                limiter.call(work).await.is_ok()
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(most.load(SeqCst), 3);
    assert_eq!((limiter.running(), limiter.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_line_and_the_wait_are_bounded_and_the_error_is_the_users_own() {
    let limiter = ConcurrencyLimiter::builder("small", 1)
        .max_waiting(1)
        .max_wait(Duration::from_millis(50))
        .build()
        .unwrap();
    let held = limiter.try_acquire().unwrap();
    assert!(limiter.try_acquire().is_err());
    let own = limiter.clone();
    let waiting = tokio::spawn(async move { own.acquire().await.map(drop) });
    tokio::task::yield_now().await;
    let third = limiter.acquire().await.unwrap_err();
    assert_eq!(third.kind(), RejectionKind::ConcurrencyLimited);
    assert!(waiting.await.unwrap().is_err(), "50 ms were over");
    drop(held);
    let failed = limiter.call(async { Err::<(), _>("mine") }).await;
    assert!(matches!(failed, Err(CallError::Failed("mine"))));
    assert!(limiter.call_blocking(|| Ok::<_, ()>(7)).is_ok());
    assert_eq!(limiter.running(), 0);
}

#[tokio::test]
async fn a_waiter_that_goes_at_any_point_loses_no_place() {
    let _tally = buttress_testkit::tally::suite("RL8 X1");
    let limiter = ConcurrencyLimiter::new("one", 1).unwrap();
    let swept = cancel_sweep(
        async || {
            let held = limiter.try_acquire().unwrap();
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                drop(held);
            });
            limiter.acquire().await.map(drop)
        },
        async |_point| {
            let again = limiter.acquire().await;
            assert!(again.is_ok(), "the place is free");
            assert_eq!((limiter.running(), limiter.waiting()), (1, 0));
        },
    )
    .await;
    assert!(swept.points >= 1, "{swept:?}");
}

#[tokio::test]
async fn places_that_are_taken_away_go_when_they_come_back() {
    let limiter = ConcurrencyLimiter::new("shrinks", 4).unwrap();
    let held: Vec<_> = (0..4).map(|_| limiter.try_acquire().unwrap()).collect();
    limiter.set_limit(2).unwrap();
    let mut held = held.into_iter();
    drop(held.next());
    drop(held.next());
    assert!(limiter.try_acquire().is_err(), "two run, and two may");
    drop(held.next());
    let third = limiter.try_acquire().unwrap();
    assert!(limiter.try_acquire().is_err());
    limiter.set_limit(5).unwrap();
    let more: Vec<_> = (0..3).map(|_| limiter.try_acquire().unwrap()).collect();
    assert!(limiter.try_acquire().is_err());
    drop((third, more, held));
    assert_eq!(limiter.running(), 0);
    assert!(limiter.set_limit(0).is_err());
}

/// A service that serves so many at once in a time, and queues the rest: the longer the queue, the longer
/// a call takes.
fn simulated(capacity: usize, rounds: usize) -> usize {
    let (clock, hand) = Clock::manual();
    let limiter = ConcurrencyLimiter::builder("adaptive", 20)
        .adaptive(
            Gradient2::new()
                .places(2, 500)
                .sample(Duration::from_millis(10), 5),
        )
        .clock(clock)
        .build()
        .unwrap();
    for _ in 0..rounds {
        let mut running = Vec::new();
        while let Ok(permit) = limiter.try_acquire() {
            running.push(permit);
        }
        let turns = running.len().div_ceil(capacity);
        hand.advance(Duration::from_millis(10) * u32::try_from(turns).unwrap());
        for permit in running {
            permit.succeeded();
        }
    }
    limiter.limit()
}

#[test]
fn an_adaptive_limit_grows_while_all_is_well() {
    assert!(
        simulated(1_000_000, 3_000) >= 400,
        "{}",
        simulated(1_000_000, 3_000)
    );
}

#[test]
fn an_adaptive_limit_shrinks_when_latency_grows() {
    let (clock, hand) = Clock::manual();
    let limiter = ConcurrencyLimiter::builder("adaptive", 100)
        .adaptive(
            Gradient2::new()
                .places(10, 200)
                .sample(Duration::from_millis(1), 5),
        )
        .clock(clock)
        .build()
        .unwrap();
    let round = |millis| {
        let running: Vec<_> = std::iter::from_fn(|| limiter.try_acquire().ok()).collect();
        hand.advance(Duration::from_millis(millis));
        running
            .into_iter()
            .for_each(buttress_rate_limiter::ConcurrencyPermit::succeeded);
    };
    for _ in 0..50 {
        round(10);
    }
    let before = limiter.limit();
    for _ in 0..20 {
        round(100);
    }
    assert!(
        limiter.limit() < before / 2,
        "{} of {before}",
        limiter.limit()
    );
}

#[test]
fn failures_double_the_wait_and_a_success_clears_it() {
    let (clock, hand) = Clock::manual();
    let logins = ProgressiveDelay::<String>::builder("logins")
        .free(2)
        .longest(Duration::from_secs(8))
        .forget_after(Duration::from_secs(60))
        .clock(clock)
        .build()
        .unwrap();
    for (attempt, wait) in [0, 0, 1, 2, 4, 8, 8].into_iter().enumerate() {
        assert!(logins.attempt("eve").is_ok(), "{attempt}");
        assert_eq!(logins.wait("eve"), Duration::from_secs(wait), "{attempt}");
        // However many try meanwhile, none is let in, and none makes it longer.
        if wait > 0 {
            for _ in 0..1000 {
                let refused = logins.attempt("eve").unwrap_err();
                assert_eq!(refused.retry_after(), Some(Duration::from_secs(wait)));
            }
        }
        hand.advance(Duration::from_secs(wait));
    }
    assert!(logins.attempt("bob").is_ok(), "others are not concerned");
    logins.succeeded("eve");
    assert_eq!((logins.failures("eve"), logins.failures("bob")), (0, 1));
    hand.advance(Duration::from_secs(60));
    assert_eq!(logins.failures("bob"), 0, "forgotten");
    assert_eq!(logins.delay_after(u32::MAX), Duration::from_secs(8));
    assert!(
        ProgressiveDelay::<u64>::builder("x")
            .first(Duration::ZERO)
            .build()
            .is_err()
    );
}
