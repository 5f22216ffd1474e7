//! Calls through the handle: async, blocking, by hand.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use buttress_circuit_breaker::{CircuitBreaker, Permit, Policy, State};
use buttress_core::{CallError, RejectionKind, Verdict};

use crate::stand::{SECOND, Stand, ten_seconds};

fn opened() -> Stand {
    let stand = Stand::new(ten_seconds().count_window(2));
    assert_eq!(stand.calls("FF"), State::Open);
    stand
}

#[tokio::test]
async fn the_calls_own_result_comes_back_unchanged() {
    let breaker = CircuitBreaker::new("payments");
    let ok: Result<u8, CallError<String>> = breaker.call(async { Ok(7) }).await;
    assert_eq!(ok.unwrap(), 7);
    let failed = breaker.call(async { Err::<u8, _>("no".to_owned()) }).await;
    assert_eq!(failed.unwrap_err().into_failed().unwrap(), "no");
    let counts = breaker.counts();
    assert_eq!((counts.calls, counts.failed), (2, 1));
}

#[tokio::test]
async fn a_rejected_call_is_never_polled_and_says_when_to_come_back() {
    let stand = opened();
    stand.hand.advance(4 * SECOND);
    let polled = std::cell::Cell::new(false);
    let call = async {
        polled.set(true);
        Ok::<(), ()>(())
    };
    let rejection = match stand.breaker.call(call).await {
        Err(CallError::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    };
    assert!(!polled.get());
    assert_eq!(rejection.kind(), RejectionKind::CircuitOpen);
    assert_eq!(rejection.name(), "payments");
    assert_eq!(rejection.retry_after(), Some(6 * SECOND));
}

#[tokio::test]
async fn the_fallback_answers_rejections_alone() {
    let stand = Stand::new(ten_seconds().count_window(2));
    let call = |result| {
        stand
            .breaker
            .call_with(async move { result }, |_| Ok::<_, &str>("cached"))
    };
    assert_eq!(call(Err("no")).await, Err("no"));
    assert_eq!(call(Err("no")).await, Err("no"));
    assert_eq!(call(Ok("fresh")).await, Ok("cached"));
}

#[tokio::test]
async fn a_classifier_sees_the_whole_result() {
    let stand = Stand::new(ten_seconds().count_window(4));
    let by_status = |result: Result<&u16, &String>| match result {
        Ok(503) => Verdict::not_done(),
        Ok(_) => Verdict::success(),
        Err(_) => Verdict::ignored(),
    };
    for (result, calls, failed) in [
        (Ok(200), 1, 0),
        (Ok(503), 2, 1),
        (Err("gone".to_owned()), 2, 1),
    ] {
        let _ = stand.breaker.call(async { result }).by(by_status).await;
        let counts = stand.breaker.counts();
        assert_eq!((counts.calls, counts.failed), (calls, failed));
    }
}

#[tokio::test]
async fn a_servers_retry_after_prolongs_the_opening() {
    let stand = Stand::new(Policy::builder().count_window(1).open_time(
        buttress_circuit_breaker::OpenTime::growing(SECOND, 60 * SECOND).with_jitter_percent(0),
    ));
    let permit = stand.breaker.try_acquire().unwrap();
    permit.record(Verdict::not_done().with_retry_after(42 * SECOND));
    assert_eq!(stand.breaker.retry_after(), Some(42 * SECOND));
}

#[tokio::test]
async fn a_panic_in_the_call_is_a_failure_whoever_catches_it() {
    let stand = Stand::new(ten_seconds().count_window(4));
    let breaker = stand.breaker.clone();
    let task = tokio::spawn(async move {
        let broken = async { panic!("broken") };
        breaker.call::<_>(broken).await as Result<(), CallError<()>>
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(stand.breaker.counts().failed, 1);

    let blocking = || {
        stand
            .breaker
            .call_blocking(|| -> Result<(), ()> { panic!("broken") })
    };
    assert!(catch_unwind(AssertUnwindSafe(blocking)).is_err());
    assert_eq!(stand.breaker.counts().failed, 2);

    let by_hand = || {
        let _permit = stand.breaker.try_acquire().unwrap();
        panic!("broken");
    };
    assert!(catch_unwind(AssertUnwindSafe(by_hand)).is_err());
    let counts = stand.breaker.counts();
    assert_eq!((counts.calls, counts.failed, counts.abandoned), (3, 3, 0));
}

#[tokio::test]
async fn a_panic_in_a_probe_gives_its_slot_back_as_a_failure() {
    let stand = Stand::half_open(ten_seconds().half_open_permits(1));
    let blocking = || {
        stand
            .breaker
            .call_blocking(|| -> Result<(), ()> { panic!("broken") })
    };
    assert!(catch_unwind(AssertUnwindSafe(blocking)).is_err());
    assert_eq!(stand.state(), State::Open);
}

#[test]
fn a_blocking_call_is_judged_like_any_other() {
    let stand = Stand::new(ten_seconds().count_window(2));
    assert_eq!(stand.breaker.call_blocking(|| Ok::<_, ()>(7)).unwrap(), 7);
    assert!(stand.breaker.call_blocking(|| Err::<(), _>("no")).is_err());
    assert_eq!(stand.state(), State::Open);
    let refused = stand
        .breaker
        .call_blocking(|| -> Result<(), ()> { panic!("made") });
    assert!(matches!(refused, Err(CallError::Rejected(_))));
}

#[tokio::test]
async fn futures_go_through_spawn_and_permits_to_other_tasks() {
    let breaker = CircuitBreaker::new("payments");
    let shared = breaker.clone();
    let judged = |result: Result<&u8, &String>| match result {
        Ok(_) => Verdict::success(),
        Err(_) => Verdict::unknown(),
    };
    let call = tokio::spawn(async move {
        shared
            .call(async { Ok::<u8, String>(1) })
            .by(judged)
            .await?;
        let permit = shared.acquire().await?;
        permit.success();
        shared
            .call_with(async { Ok::<u8, String>(1) }, |_| Ok(2))
            .await
            .map_err(CallError::Failed)
    });
    assert_eq!(call.await.unwrap().unwrap(), 1);
    let permit = breaker.try_acquire_owned().unwrap();
    std::thread::spawn(move || permit.failure()).join().unwrap();
    assert_eq!(breaker.counts().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_probes_one_may_wait_for_the_verdict() {
    let policy = || {
        ten_seconds()
            .half_open_permits(1)
            .half_open_wait(3 * SECOND)
    };
    let stand = Stand::half_open(policy());
    let probe = stand.breaker.try_acquire_owned().unwrap();
    let breaker = stand.breaker.clone();
    let waits = tokio::spawn(async move { breaker.call(async { Ok::<_, ()>(7) }).await });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    probe.success();
    assert_eq!(waits.await.unwrap().unwrap(), 7);
    assert_eq!(stand.state(), State::Closed);

    let stand = Stand::half_open(policy());
    let probe = stand.breaker.try_acquire_owned().unwrap();
    let waits = stand.breaker.acquire();
    let fails = async {
        tokio::task::yield_now().await;
        probe.failure();
    };
    let (waited, ()) = tokio::join!(waits, fails);
    assert_eq!(waited.unwrap_err().retry_after(), Some(10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_the_verdict_is_bounded_and_a_freed_slot_ends_it() {
    let stand = Stand::half_open(
        ten_seconds()
            .half_open_permits(3)
            .half_open_wait(3 * SECOND),
    );
    let mut probes = [0; 3].map(|_| Some(stand.breaker.try_acquire_owned().unwrap()));
    let stand_clock = buttress_core::Clock::tokio();
    let before = stand_clock.now();
    assert_eq!(
        stand.breaker.acquire().await.unwrap_err().retry_after(),
        None
    );
    assert!((3..4).contains(&stand_clock.now().saturating_since(before).as_secs()));
    let waits = async { stand.breaker.acquire().await.map(Permit::ignore) };
    let frees = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(probes[0].take());
    };
    let (waited, ()) = tokio::join!(waits, frees);
    waited.unwrap();
}
