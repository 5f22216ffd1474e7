//! Time limits, retry and breaker around one another.

use buttress_circuit_breaker::{Abandoned, Policy, State, tower::CircuitBreakerLayer};
use buttress_core::CallError;
use buttress_retry_backoff::{Failure, Stopped, http::ByStatus, tower::RetryLayer};
use tower::{Layer, ServiceBuilder, timeout::TimeoutLayer};

use super::{
    Boxed, breaker, breaker_after, http, is_elapsed, millis, retry, retry_by, send, three_attempts,
    timed,
};
use crate::target::{Act, Target};

#[tokio::test]
async fn row_1_a_total_timeout_outside_the_retry_bounds_it_and_inside_it_is_paid_by_each_attempt() {
    let target = Target::always(Act::Hang).await;
    let right = ServiceBuilder::new()
        .layer(TimeoutLayer::new(millis(200)))
        .layer(RetryLayer::http(retry()))
        .service(http());
    let (result, took) = timed(&right, target.get()).await;
    assert!(is_elapsed(&result.unwrap_err()));
    assert!(took < millis(500), "{took:?}");
    assert_eq!(target.requests(), 1);

    let wrong = ServiceBuilder::new()
        .layer(RetryLayer::http(retry()))
        .map_err(Boxed::from)
        .layer(TimeoutLayer::new(millis(200)))
        .service(http());
    let (result, took) = timed(&wrong, target.get()).await;
    assert_eq!(result.unwrap_err().attempts(), 3);
    assert!(took >= millis(600), "{took:?}");
    assert_eq!(target.requests(), 1 + 3);
}

/// The retry's own limits are these two layers in one handle, and say more in their error.
#[tokio::test]
async fn row_1_the_retrys_own_limits_do_what_both_layers_do() {
    let target = Target::start([Act::Hang, Act::Answer(200)]).await;
    let limits = three_attempts()
        .attempt_timeout(millis(100))
        .total_time(millis(400));
    let service = RetryLayer::http(retry_by(limits)).layer(http());
    assert_eq!(send(&service, target.get()).await.unwrap().status(), 200);

    target.otherwise(|| Act::Hang);
    let limits = three_attempts().total_time(millis(200));
    let service = RetryLayer::http(retry_by(limits)).layer(http());
    let (result, took) = timed(&service, target.get()).await;
    let error = result.unwrap_err();
    assert_eq!((error.stopped(), error.attempts()), (Stopped::Time, 1));
    assert!(took < millis(500), "{took:?}");
}

#[tokio::test]
async fn row_2_a_breaker_inside_the_retry_counts_attempts_and_outside_it_only_calls() {
    let inside = breaker_after(4);
    let target = Target::always(Act::Answer(500)).await;
    let right = ServiceBuilder::new()
        .layer(RetryLayer::http(retry()).unwrapped())
        .layer(CircuitBreakerLayer::new(&inside).by(ByStatus))
        .service(http());
    let first = send(&right, target.get()).await.unwrap();
    assert_eq!(first.status(), 500);
    // The second call's first attempt opens it, and its second is rejected: it stops at once.
    let second = send(&right, target.get()).await.unwrap_err();
    assert!(matches!(second.failure(), Failure::Rejected(_)));
    assert_eq!((inside.state(), target.requests()), (State::Open, 4));

    let outside = breaker_after(4);
    let target = Target::always(Act::Answer(500)).await;
    let wrong = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(&outside).by(ByStatus))
        .layer(RetryLayer::http(retry()))
        .service(http());
    for _ in 0..4 {
        assert_eq!(send(&wrong, target.get()).await.unwrap().status(), 500);
    }
    assert!(matches!(
        send(&wrong, target.get()).await,
        Err(CallError::Rejected(_))
    ));
    // The dead target was asked three times as often before it was left alone.
    assert_eq!((outside.state(), target.requests()), (State::Open, 12));
}

/// Where a breaker outside of the retry is right: when what matters is whether calls succeed in the
/// end, and the retry is quick.
#[tokio::test]
async fn row_2_a_breaker_outside_the_retry_does_not_see_what_the_retry_mends() {
    for (inside, failed) in [(false, 0), (true, 10)] {
        let breaker = breaker(Policy::builder().minimum_calls(50));
        let mended = [Act::Answer(503), Act::Answer(200)];
        let target = Target::start(mended.into_iter().cycle().take(20)).await;
        let layer = CircuitBreakerLayer::new(&breaker).by(ByStatus);
        for _ in 0..10 {
            let status = if inside {
                let service = RetryLayer::http(retry())
                    .unwrapped()
                    .layer(layer.layer(http()));
                send(&service, target.get()).await.unwrap().status()
            } else {
                let service = layer.layer(RetryLayer::http(retry()).layer(http()));
                send(&service, target.get()).await.unwrap().status()
            };
            assert_eq!(status, 200);
        }
        assert_eq!(breaker.counts().failed, failed);
    }
}

#[tokio::test]
async fn row_3_a_timeout_outside_of_all_opens_the_breaker_by_what_is_abandoned_and_not_if_that_is_ignored()
 {
    let target = Target::always(Act::Hang).await;
    for (abandoned, opens) in [
        (Abandoned::FailureWhenMost, true),
        (Abandoned::Failure, true),
        (Abandoned::Neutral, false),
    ] {
        let breaker = breaker(Policy::builder().count_window(5).abandoned(abandoned));
        let service = ServiceBuilder::new()
            .layer(TimeoutLayer::new(millis(30)))
            .layer(RetryLayer::http(retry()).unwrapped())
            .layer(CircuitBreakerLayer::new(&breaker).by(ByStatus))
            .service(http());
        let mut timed_out = 0;
        for _ in 0..12 {
            let error = send(&service, target.get()).await.unwrap_err();
            timed_out += usize::from(is_elapsed(&error));
        }
        let open = breaker.state() == State::Open;
        assert_eq!(open, opens, "{abandoned:?}");
        assert_eq!(timed_out < 12, opens, "{abandoned:?}: {timed_out}");
    }
}

#[tokio::test]
async fn row_4_a_timeout_inside_the_breaker_is_a_failure_like_any_other() {
    let target = Target::always(Act::Hang).await;
    let breaker = breaker(
        Policy::builder()
            .no_window()
            .consecutive_failures(4)
            .abandoned(Abandoned::Neutral),
    );
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(&breaker).by(ByStatus))
        .map_err(Boxed::from)
        .layer(TimeoutLayer::new(millis(30)))
        .service(http());
    for _ in 0..4 {
        let error = send(&service, target.get()).await.unwrap_err();
        assert!(
            error
                .into_failed()
                .is_ok_and(|error| is_elapsed(&error.into_inner()))
        );
    }
    assert!(matches!(
        send(&service, target.get()).await,
        Err(CallError::Rejected(_))
    ));
    assert_eq!(target.requests(), 4);
}

#[tokio::test]
async fn row_5_a_timeout_of_each_attempt_leaves_time_for_another_and_a_total_one_alone_does_not() {
    let target = Target::start([Act::Hang, Act::Answer(200)]).await;
    let right = ServiceBuilder::new()
        .layer(TimeoutLayer::new(millis(1000)))
        .layer(RetryLayer::http(retry()))
        .map_err(Boxed::from)
        .layer(TimeoutLayer::new(millis(100)))
        .service(http());
    assert_eq!(send(&right, target.get()).await.unwrap().status(), 200);
    assert_eq!(target.requests(), 2);

    let target = Target::start([Act::Hang, Act::Answer(200)]).await;
    let wrong = ServiceBuilder::new()
        .layer(TimeoutLayer::new(millis(300)))
        .layer(RetryLayer::http(retry()))
        .service(http());
    let error = send(&wrong, target.get()).await.unwrap_err();
    assert!(is_elapsed(&error));
    assert_eq!(target.requests(), 1, "all the time went into one attempt");
}
