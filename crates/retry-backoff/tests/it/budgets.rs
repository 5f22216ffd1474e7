//! Budgets that calls share, and what they spare a service that is down.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::{Clock, Registry};
use buttress_retry_backoff::{Backoff, Budget, BudgetRule, Dice, Retry, RetryPolicy, Stopped};
use buttress_testkit::{cancel_sweep::cancel_sweep, tier::short_or_long};

fn retry(budget: Option<Budget>) -> Retry {
    let policy = RetryPolicy::builder().attempts(4).backoff(Backoff::none());
    let retry = Retry::new("test", policy.build().unwrap());
    match budget {
        Some(budget) => retry.with_budget(budget),
        None => retry,
    }
}

#[test]
fn g3_4_and_more_what_cannot_work_is_refused_by_name() {
    let tokens = |ttl, ratio| BudgetRule::Tokens {
        ttl: Duration::from_secs(ttl),
        per_second: 1,
        ratio,
    };
    let throttle = |max_tokens, ratio| BudgetRule::Throttle { max_tokens, ratio };
    let quota = |capacity, error| BudgetRule::Quota {
        capacity,
        error,
        timeout: 1,
        throttled: 1,
    };
    for (rule, field) in [
        (tokens(0, 0.1), "budget.ttl"),
        (tokens(61, 0.1), "budget.ttl"),
        (tokens(10, -1.0), "budget.ratio"),
        (tokens(10, f64::NAN), "budget.ratio"),
        (throttle(0, 0.1), "budget.max_tokens"),
        (throttle(1001, 0.1), "budget.max_tokens"),
        (throttle(10, 0.0), "budget.ratio"),
        (throttle(10, 0.0004), "budget.ratio"),
        (quota(10, 11), "budget.error"),
        (quota(10, 0), "budget.error"),
        (
            BudgetRule::Share {
                percent: 101,
                at_least: 0,
            },
            "budget.percent",
        ),
    ] {
        assert_eq!(Budget::new(rule).unwrap_err().field(), field, "{rule:?}");
    }
}

/// And G3.8's empty budget; its infinite one is no budget.
#[tokio::test]
async fn g3_4_without_reserve_and_ratio_there_is_no_retry() {
    let rule = BudgetRule::Tokens {
        ttl: Duration::from_secs(10),
        per_second: 0,
        ratio: 0.0,
    };
    let retry = retry(Some(Budget::new(rule).unwrap()));
    let error = retry.call(async || Err::<(), _>(())).await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Budget));
}

#[tokio::test]
async fn handles_that_share_a_budget_share_its_end() {
    let rule = BudgetRule::Quota {
        capacity: 5,
        error: 1,
        timeout: 1,
        throttled: 1,
    };
    let budget = Budget::new(rule).unwrap();
    let registry = Registry::new();
    let (one, other) = (retry(Some(budget.clone())), retry(Some(budget)));
    one.register(&registry);
    let fail = async || Err::<(), _>(());
    assert_eq!(
        one.call(fail).await.unwrap_err().stopped(),
        Stopped::Attempts
    );
    let error = other.call(fail).await.unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (3, Stopped::Budget));
    let gauges = Mutex::new(Vec::new());
    registry.entries()[0].gauges(&mut |name, value| gauges.lock().unwrap().push((name, value)));
    assert_eq!(
        *gauges.lock().unwrap(),
        [("buttress_retry_backoff_budget_available", 0)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_point_owes_the_budget_nothing() {
    let _tally = buttress_testkit::tally::suite("X1");
    for rule in [BudgetRule::quota(), BudgetRule::share()] {
        let budget = Budget::new(rule).unwrap();
        let full = budget.available();
        let retry = Retry::new("test", RetryPolicy::default()).with_budget(budget.clone());
        cancel_sweep(
            async || {
                let made = AtomicU32::new(0);
                let call = retry.call(async || {
                    tokio::task::yield_now().await;
                    match made.fetch_add(1, Ordering::Relaxed) {
                        1 => Ok(()),
                        _ => Err(()),
                    }
                });
                call.await.unwrap();
            },
            async |_| assert_eq!(budget.available(), full, "{rule:?}"),
        )
        .await;
    }
}

/// RB4: clients call a service that is down for a minute, five times a second each.
fn amplification(budget: Option<BudgetRule>, seed: u64) -> f64 {
    let (clock, hand) = Clock::manual();
    let budget = budget.map(|rule| Budget::with_clock(rule, clock).unwrap());
    let retry = retry(budget).with_dice(Dice::seeded(seed));
    let (mut calls, mut attempts) = (0.0, 0.0);
    for _tick in 0..60 {
        for _client in 0..1000 {
            calls += 1.0;
            let call = retry.call_blocking(|| {
                attempts += 1.0;
                Err::<(), _>(())
            });
            assert!(call.run().is_err());
        }
        hand.advance(Duration::from_secs(1));
    }
    attempts / calls
}

#[test]
fn rb4_retries_against_a_dead_service_stay_within_the_budget() {
    let tally = buttress_testkit::tally::suite("RB4");
    for seed in 0..short_or_long(5, 20) {
        let tenth = BudgetRule::Tokens {
            ttl: Duration::from_secs(10),
            per_second: 0,
            ratio: 0.1,
        };
        let amplified = amplification(Some(tenth), seed);
        assert!((1.0..=1.1001).contains(&amplified), "{amplified}");
        let throttle = BudgetRule::Throttle {
            max_tokens: 100,
            ratio: 0.1,
        };
        let amplified = amplification(Some(throttle), seed);
        assert!((1.0..=1.01).contains(&amplified), "{amplified}");
        let amplified = amplification(Some(BudgetRule::quota()), seed);
        assert!((1.0..=1.01).contains(&amplified), "{amplified}");
    }
    tally.operations(3 * short_or_long(5, 20));
}

#[test]
fn rb4_the_check_finds_the_planted_lack_of_a_budget() {
    let tally = buttress_testkit::tally::suite("RB4");
    assert!(amplification(None, 0) > 3.99);
    tally.caught(1);
}

#[test]
fn blocking_calls_judge_wait_and_give_up_like_the_others() {
    let retry = retry(None);
    let mut made = 0;
    let value = retry.call_blocking(|| {
        made += 1;
        if made < 3 { Err("no") } else { Ok(made) }
    });
    assert_eq!(value.run().unwrap(), 3);
    let error = retry
        .call_blocking(|| Err::<(), _>("no"))
        .classify(buttress_core::ByResult)
        .run()
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Unknown));
    let (clock, hand) = Clock::manual();
    let late = retry.clone().with_clock(clock);
    let error = late
        .call_blocking(|| {
            hand.advance(Duration::from_secs(2));
            Err::<(), _>("no")
        })
        .within(Duration::from_secs(3))
        .run()
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (2, Stopped::Time));
    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    let policy = RetryPolicy::builder()
        .backoff(Backoff::constant(Duration::from_millis(2)))
        .build();
    let slow = Retry::new("slow", policy.unwrap()).with_observer(
        move |_: &buttress_retry_backoff::Event| {
            count.fetch_add(1, Ordering::Relaxed);
        },
    );
    assert!(slow.call_blocking(|| Err::<(), _>(())).run().is_err());
    assert_eq!(heard.load(Ordering::Relaxed), 3);
}
