//! Time: nothing is slept past it, nothing is begun after it, and none is read without need.

use std::{
    future::pending,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use buttress_core::{ByResult, Clock, RejectionKind, Verdict};
use buttress_retry_backoff::{
    Attempt, Backoff, Dice, Failure, Jitter, Retry, RetryPolicy, RetryPolicyBuilder, Stopped,
    tower::RetryLayer,
};
use buttress_testkit::tier::short_or_long;
use tower::{Layer as _, ServiceExt as _};

use crate::waits::{Stopwatch, waits};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_end_after_the_deadline_is_not_begun() {
    let policy = RetryPolicy::builder()
        .backoff(Backoff::constant(ms(400)))
        .unlimited_attempts()
        .total_time(ms(1000))
        .build()
        .unwrap();
    let told = waits(policy, Dice::random(), Verdict::not_done()).await;
    assert_eq!(told.waits, [ms(400), ms(400)]);
    assert_eq!((told.stopped, told.elapsed), (Stopped::Time, ms(800)));
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_begun_with_less_than_the_least_time() {
    let policy = RetryPolicy::builder()
        .backoff(Backoff::constant(ms(400)))
        .unlimited_attempts()
        .total_time(ms(1000))
        .least_time(ms(250))
        .build()
        .unwrap();
    let told = waits(policy, Dice::random(), Verdict::not_done()).await;
    assert_eq!((told.stopped, told.elapsed), (Stopped::Time, ms(400)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_dropped_at_its_timeout_and_its_effect_is_unknown() {
    let policy = RetryPolicy::builder()
        .backoff(Backoff::none())
        .attempt_timeout(ms(50))
        .build()
        .unwrap();
    let retry = Retry::new("test", policy);
    for (idempotent, attempts, stopped) in
        [(false, 1, Stopped::Unknown), (true, 3, Stopped::Attempts)]
    {
        let begin = Stopwatch::start();
        let call = retry
            .call(pending::<Result<(), &str>>)
            .classify(|_: Result<&(), &&str>| Verdict::not_done());
        let call = if idempotent { call.idempotent() } else { call };
        let error = call.await.unwrap_err();
        assert_eq!((error.attempts(), error.stopped()), (attempts, stopped));
        assert_eq!(begin.elapsed(), ms(50) * attempts);
        assert!(matches!(error.failure(), Failure::TimedOut(late) if late.limit() == ms(50)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_under_way_at_the_deadline_is_dropped() {
    let policy = RetryPolicy::builder().total_time(ms(300)).build().unwrap();
    let begin = Stopwatch::start();
    let error = Retry::new("test", policy)
        .call(pending::<Result<(), &str>>)
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Time));
    assert_eq!(begin.elapsed(), ms(300));
}

#[tokio::test(start_paused = true)]
async fn a_call_may_have_less_time_than_its_policy() {
    let policy = RetryPolicy::builder().total_time(ms(300)).build().unwrap();
    let retry = Retry::new("test", policy);
    let begin = Stopwatch::start();
    let within = |limit| retry.call(pending::<Result<(), &str>>).within(limit);
    assert!(within(ms(100)).await.is_err());
    assert_eq!(begin.elapsed(), ms(100));
    assert!(within(ms(9000)).await.is_err());
    assert_eq!(begin.elapsed(), ms(400));
}

#[tokio::test(start_paused = true)]
async fn without_time_the_operation_is_not_called() {
    let retry = Retry::new("test", RetryPolicy::default());
    let error = retry
        .call(|| async { panic!("called") as Result<(), &str> })
        .within(Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (0, Stopped::Time));
    assert!(matches!(
        error.failure(),
        Failure::Rejected(it) if it.kind() == RejectionKind::DeadlineExceeded
    ));
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_is_told_how_much_of_the_whole_is_left_for_it() {
    let policy = RetryPolicy::builder()
        .backoff(Backoff::constant(ms(40)))
        .attempt_timeout(ms(50))
        .total_time(ms(100))
        .build()
        .unwrap();
    let limits = std::sync::Mutex::new(Vec::new());
    let error = Retry::new("test", policy)
        .call_with(|attempt: Attempt<'_, ()>| {
            limits.lock().unwrap().push(attempt.limit().unwrap());
            pending::<Result<(), ()>>()
        })
        .await
        .unwrap_err();
    assert_eq!(*limits.lock().unwrap(), [ms(50), ms(10)]);
    assert_eq!(error.elapsed(), Some(ms(100)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_zero_has_no_timer() {
    let retry = Retry::new(
        "test",
        RetryPolicy::builder()
            .backoff(Backoff::none())
            .attempts(1000)
            .build()
            .unwrap(),
    );
    let begin = Stopwatch::start();
    assert!(retry.call(async || Err::<(), _>(())).await.is_err());
    // A timer of tokio's would have moved the paused clock by its millisecond.
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

/// Runs a call of random length that always fails: whether it kept to `total`, and began no attempt
/// without time.
async fn keeps_to(total: Duration, retry: &Retry, dice: &Dice) -> Result<(), String> {
    let begin = Stopwatch::start();
    let made = AtomicU32::new(0);
    let error = retry
        .call_with(|attempt: Attempt<'_, ()>| {
            assert!(!attempt.left().unwrap().is_zero());
            // Without this an attempt and a wait of nothing would go on for ever.
            let takes = upto(dice, 400.0) + ms(1);
            made.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(takes).await;
                Err::<(), _>(())
            }
        })
        .await
        .unwrap_err();
    let (took, stopped) = (begin.elapsed(), error.stopped());
    // Tokio's timer counts in milliseconds and rounds a wait up to the next.
    if took > total + ms(1) || stopped != Stopped::Time {
        return Err(format!("{took:?} of {total:?}, stopped by {stopped}"));
    }
    assert_eq!(error.attempts(), made.load(Ordering::Relaxed));
    Ok(())
}

fn upto(dice: &Dice, millis: f64) -> Duration {
    Duration::from_millis(Duration::from_secs_f64(dice.roll() * millis).as_secs())
}

fn random_policy(dice: &Dice, timeout: bool) -> (RetryPolicyBuilder, Duration) {
    let total = upto(dice, 2000.0) + ms(1);
    let backoff = Backoff::exponential(upto(dice, 100.0)).with_jitter(Jitter::Equal);
    let policy = RetryPolicy::builder().backoff(backoff).total_time(total);
    if timeout {
        let timeout = upto(dice, 300.0) + ms(1);
        return (policy.attempt_timeout(timeout), total);
    }
    (policy, total)
}

/// RB7: random policies and operations in paused time.
#[tokio::test(start_paused = true)]
async fn rb7_no_call_ends_after_its_deadline_and_none_begins_an_attempt_without_time() {
    let tally = buttress_testkit::tally::suite("RB7");
    let dice = Dice::seeded(7);
    for round in 0..short_or_long(10_000, 200_000) {
        let (policy, total) = random_policy(&dice, round % 2 == 0);
        let policy = policy.unlimited_attempts().build().unwrap();
        let retry = Retry::new("test", policy).with_dice(dice.clone());
        keeps_to(total, &retry, &dice).await.unwrap();
    }
    tally.operations(short_or_long(10_000, 200_000));
}

/// A handle whose clock stands still is one that never looks at its deadline.
#[tokio::test(start_paused = true)]
async fn rb7_the_check_finds_a_planted_deadline_that_nobody_looks_at() {
    let tally = buttress_testkit::tally::suite("RB7");
    let dice = Dice::seeded(7);
    let (policy, _) = random_policy(&dice, false);
    let total = ms(100);
    let policy = policy.total_time(total).attempts(20).build().unwrap();
    let (clock, _hand) = Clock::manual();
    let retry = Retry::new("test", policy).with_clock(clock);
    let found = keeps_to(total, &retry, &dice).await;
    assert!(found.is_err());
    tally.caught(1);
}

#[tokio::test]
async fn a_call_that_nothing_limits_reads_no_clock_whether_it_succeeds_or_fails() {
    let (clock, hand) = Clock::manual();
    let plain = RetryPolicy::builder().backoff(Backoff::none());
    let retry = Retry::new("test", plain.build().unwrap()).with_clock(clock.clone());
    assert_eq!(retry.call(async || Ok::<_, ()>(7)).await.unwrap(), 7);
    assert_eq!(retry.call_blocking(|| Ok::<_, ()>(7)).run().unwrap(), 7);
    retry.call(async || Err::<(), _>(())).await.unwrap_err();
    let layer = RetryLayer::new(retry.clone(), ByResult).idempotent();
    let service = layer.layer(tower::service_fn(async |()| Ok::<_, ()>(7)));
    assert_eq!(service.oneshot(()).await.unwrap(), 7);
    assert_eq!(hand.reads(), 0);
    // Nor does an attempt's own timeout need it, for that is a timer.
    let timed = retry.policy().to_builder().attempt_timeout(ms(100));
    let timed = Retry::new("test", timed.build().unwrap()).with_clock(clock);
    assert_eq!(timed.call(async || Ok::<_, ()>(7)).await.unwrap(), 7);
    let layer = RetryLayer::new(timed, ByResult).idempotent();
    let service = layer.layer(tower::service_fn(async |()| Ok::<_, ()>(7)));
    assert_eq!(service.oneshot(()).await.unwrap(), 7);
    assert_eq!(hand.reads(), 0);
    // And the count can fail: a limit of the whole is read once.
    let call = retry.call(async || Ok::<_, ()>(7)).within(ms(100));
    assert_eq!(call.await.unwrap(), 7);
    assert_eq!(hand.reads(), 1);
}

/// The hand is not moved, so a call that asked this clock would never time out.
#[tokio::test(start_paused = true)]
async fn the_deadline_is_of_the_handles_own_clock() {
    let (clock, hand) = Clock::manual();
    let policy = RetryPolicy::builder()
        .backoff(Backoff::constant(ms(400)))
        .attempts(100)
        .total_time(ms(1000))
        .build()
        .unwrap();
    let retry = Retry::new("test", policy).with_clock(clock);
    let error = retry.call(async || Err::<(), _>(())).await.unwrap_err();
    assert_eq!(
        (error.attempts(), error.stopped()),
        (100, Stopped::Attempts)
    );
    let error = retry
        .call(async || {
            hand.advance(ms(700));
            Err::<(), _>(())
        })
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.stopped()), (1, Stopped::Time));
}
