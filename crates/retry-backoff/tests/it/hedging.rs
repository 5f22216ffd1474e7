//! Attempts beside one another: when they begin, who wins, what they pay.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::{CallError, Rejection, RejectionKind, Verdict};
use buttress_retry_backoff::{
    Budget, BudgetRule, Event, Failure, Stopped,
    hedge::{Hedge, HedgeDelay},
};
use buttress_testkit::cancel_sweep::cancel_sweep;

use crate::waits::Stopwatch;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An attempt: how long it takes, and what it comes to.
type Script = &'static [(u64, Result<u32, &'static str>)];

struct Run {
    begun: Vec<u64>,
    ended: u64,
    result: Result<u32, (&'static str, Stopped)>,
}

async fn run(hedge: &Hedge, script: Script) -> Run {
    let clock = Stopwatch::start();
    let begun = Mutex::new(Vec::new());
    let result = hedge
        .call(|| {
            let mut begun = begun.lock().unwrap();
            let (takes, result) = script[begun.len()];
            begun.push(u64::try_from(clock.elapsed().as_millis()).unwrap());
            async move {
                tokio::time::sleep(ms(takes)).await;
                result
            }
        })
        .classify(|result: Result<&u32, &&str>| match result {
            Ok(_) => Verdict::success(),
            Err(&"fatal") => Verdict::refused(),
            Err(&"pushback") => Verdict::not_done().with_retry_after(ms(2000)),
            Err(_) => Verdict::unknown(),
        })
        .await;
    Run {
        begun: begun.into_inner().unwrap(),
        ended: u64::try_from(clock.elapsed().as_millis()).unwrap(),
        result: result.map_err(|error| {
            let stopped = error.stopped();
            (*error.failure().error().unwrap(), stopped)
        }),
    }
}

fn after(delay: u64, most: u32) -> Hedge {
    Hedge::new("test", HedgeDelay::After(ms(delay)), most).unwrap()
}

const SLOW: (u64, Result<u32, &str>) = (100_000, Ok(0));

#[tokio::test(start_paused = true)]
async fn h1_without_an_answer_one_more_each_delay() {
    let told = run(&after(500, 3), &[SLOW, SLOW, SLOW, (100, Ok(3))]).await;
    assert_eq!(told.begun, [0, 500, 1000, 1500]);
    assert_eq!((told.ended, told.result), (1600, Ok(3)));
}

#[tokio::test(start_paused = true)]
async fn h2_a_failure_begins_the_next_at_once_and_the_delay_anew() {
    let told = run(&after(500, 3), &[SLOW, (200, Err("no")), SLOW, (1, Ok(3))]).await;
    assert_eq!(told.begun, [0, 500, 700, 1200]);
    assert_eq!(told.result, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn h3_what_is_fatal_ends_them_all() {
    let told = run(&after(500, 3), &[SLOW, (200, Err("fatal"))]).await;
    assert_eq!(told.begun, [0, 500]);
    assert_eq!(
        (told.ended, told.result),
        (700, Err(("fatal", Stopped::Final)))
    );
}

#[tokio::test(start_paused = true)]
async fn h4_without_a_delay_all_begin_at_once() {
    let told = run(&after(0, 3), &[SLOW, SLOW, (70, Ok(2)), SLOW]).await;
    assert_eq!(told.begun, [0, 0, 0, 0]);
    assert_eq!((told.ended, told.result), (70, Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn h5_a_pushback_puts_the_next_off() {
    let told = run(&after(500, 3), &[SLOW, (200, Err("pushback")), (1, Ok(2))]).await;
    assert_eq!(told.begun, [0, 500, 2700]);
    assert_eq!(told.result, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn h6_after_failures_only_and_when_all_fail_the_first_ones_result() {
    let hedge = Hedge::new("test", HedgeDelay::OnFailure, 1).unwrap();
    let told = run(&hedge, &[(9000, Ok(0))]).await;
    assert_eq!((told.begun.len(), told.ended), (1, 9000));
    let told = run(&hedge, &[(10, Err("first")), (10, Err("second"))]).await;
    assert_eq!(told.begun, [0, 10]);
    assert_eq!(
        (told.ended, told.result),
        (20, Err(("first", Stopped::Attempts)))
    );
}

#[tokio::test(start_paused = true)]
async fn h7_one_hedge_beside_a_slow_first_and_the_loser_is_dropped() {
    let told = run(&after(10, 1), &[(100, Ok(0)), (20, Ok(1))]).await;
    assert_eq!(
        (told.begun, told.ended, told.result),
        (vec![0, 10], 30, Ok(1))
    );
    let told = run(&after(10, 1), &[(100, Ok(0)), SLOW]).await;
    assert_eq!((told.ended, told.result), (100, Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn h8_without_budget_no_hedge_and_the_first_still_answers() {
    let rule = BudgetRule::Tokens {
        ttl: Duration::from_secs(1),
        per_second: 0,
        ratio: 0.0,
    };
    let hedge = after(10, 3).with_budget(Budget::new(rule).unwrap());
    let told = run(&hedge, &[(100, Ok(0))]).await;
    assert_eq!((told.begun, told.ended, told.result), (vec![0], 100, Ok(0)));
    let told = run(&hedge, &[(100, Err("no"))]).await;
    assert_eq!(told.result, Err(("no", Stopped::Budget)));
}

#[tokio::test(start_paused = true)]
async fn the_quantile_of_what_was_seen_is_the_delay() {
    let delay = HedgeDelay::Quantile {
        per_mille: 900,
        before: ms(77),
    };
    let hedge = Hedge::new("test", delay, 1).unwrap();
    assert_eq!(run(&hedge, &[(500, Ok(0)), SLOW]).await.begun, [0, 77]);
    for _ in 0..30 {
        run(&hedge, &[(40, Ok(0)), SLOW]).await;
    }
    assert_eq!(run(&hedge, &[SLOW, (1, Ok(1))]).await.begun, [0, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_not_hedged() {
    let made = AtomicU32::new(0);
    let error = after(10, 3)
        .call_wrapped(async || {
            made.fetch_add(1, Ordering::Relaxed);
            let open = Rejection::new(RejectionKind::CircuitOpen, "a");
            Err::<(), CallError<()>>(open.into())
        })
        .await
        .unwrap_err();
    assert_eq!((made.into_inner(), error.stopped()), (1, Stopped::Rejected));
    assert!(matches!(error.into_failure(), Failure::Rejected(_)));
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let quantile = |per_mille| HedgeDelay::Quantile {
        per_mille,
        before: ms(1),
    };
    for (delay, most, field) in [
        (HedgeDelay::OnFailure, 0, "hedge.most"),
        (HedgeDelay::OnFailure, 11, "hedge.most"),
        (quantile(0), 1, "hedge.per_mille"),
        (quantile(1000), 1, "hedge.per_mille"),
    ] {
        assert_eq!(Hedge::new("test", delay, most).unwrap_err().field(), field);
    }
}

#[tokio::test(start_paused = true)]
async fn events_tell_each_hedge() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let hedge = after(10, 2).with_observer(move |event: &Event| {
        if let Event::Hedged { attempt, .. } = event {
            list.lock().unwrap().push(*attempt);
        }
    });
    assert!(run(&hedge, &[SLOW, SLOW, (1, Ok(0))]).await.result.is_ok());
    assert_eq!(*heard.lock().unwrap(), [2, 3]);
}

/// RB8: an effect happens when an attempt ends, so a loser that went on would have a second one.
#[tokio::test(start_paused = true)]
async fn rb8_one_effect_wherever_the_call_is_dropped() {
    let _tally = buttress_testkit::tally::suite("RB8 X1");
    let effects = AtomicU32::new(0);
    let budget = Budget::new(BudgetRule::share()).unwrap();
    let full = budget.available();
    let hedge = after(10, 2).with_budget(budget.clone());
    let swept = cancel_sweep(
        async || {
            effects.store(0, Ordering::Relaxed);
            let begun = AtomicU32::new(0);
            let call = hedge.call(|| {
                let takes = match begun.fetch_add(1, Ordering::Relaxed) {
                    0 => 100,
                    1 => 30,
                    _ => 40,
                };
                let effects = &effects;
                async move {
                    tokio::time::sleep(ms(takes)).await;
                    effects.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, ()>(())
                }
            });
            call.await.unwrap();
        },
        async |_| {
            tokio::time::sleep(ms(500)).await;
            assert!(effects.load(Ordering::Relaxed) <= 1);
            assert_eq!(budget.available(), full);
        },
    )
    .await;
    assert!(swept.points >= 6, "{}", swept.points);
    assert_eq!(effects.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn rb8_the_check_finds_planted_attempts_that_are_not_dropped() {
    let tally = buttress_testkit::tally::suite("RB8");
    let effects = Arc::new(AtomicU32::new(0));
    let call = after(10, 1).call(|| {
        let effects = Arc::clone(&effects);
        let task = tokio::spawn(async move {
            tokio::time::sleep(ms(30)).await;
            effects.fetch_add(1, Ordering::Relaxed);
        });
        async { task.await.map_err(drop) }
    });
    call.await.unwrap();
    tokio::time::sleep(ms(500)).await;
    assert_eq!(effects.load(Ordering::Relaxed), 2);
    tally.caught(1);
}

#[tokio::test]
async fn hedged_calls_are_send_in_a_spawned_task() {
    let hedge = after(10, 1);
    let task = tokio::spawn(async move { hedge.call(async || Ok::<_, ()>(7)).await });
    assert_eq!(task.await.unwrap().unwrap(), 7);
}
