//! Limits on what goes out, around and within the rest. tower's own stand for any limit that waits.

use std::time::{Duration, Instant};

use buttress_circuit_breaker::tower::CircuitBreakerLayer;
use buttress_core::CallError;
use buttress_retry_backoff::{Backoff, Jitter, RetryPolicy, http::ByStatus, tower::RetryLayer};
use tower::{
    Layer, ServiceBuilder,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    timeout::TimeoutLayer,
};

use super::{Boxed, breaker_after, http, is_elapsed, millis, retry, retry_by, send};
use crate::target::{Act, Target};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn row_6_a_limit_inside_the_breaker_is_not_spent_on_rejections() {
    let target = Target::start([]).await;
    let breaker = breaker_after(1);
    let right = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(&breaker).by(ByStatus))
        .map_err(Boxed::from)
        .buffer(8)
        .rate_limit(3, HOUR)
        .service(http());
    breaker.force_open();
    for _ in 0..5 {
        let rejected = send(&right, target.get()).await.unwrap_err();
        assert!(matches!(rejected, CallError::Rejected(_)));
    }
    breaker.close();
    for _ in 0..3 {
        assert_eq!(send(&right, target.get()).await.unwrap().status(), 200);
    }
    assert_eq!(target.requests(), 3);

    let target = Target::start([]).await;
    let wrong = ServiceBuilder::new()
        .buffer(8)
        .rate_limit(3, HOUR)
        .layer(CircuitBreakerLayer::new(&breaker).by(ByStatus))
        .service(http());
    breaker.force_open();
    for _ in 0..3 {
        assert!(send(&wrong, target.get()).await.is_err());
    }
    breaker.close();
    let call = tokio::time::timeout(millis(200), send(&wrong, target.get()));
    assert!(call.await.is_err(), "the rejections have used the limit up");
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn row_7_a_rate_inside_the_retry_bounds_attempts_and_outside_it_only_calls() {
    let target = Target::always(Act::Answer(500)).await;
    let right = ServiceBuilder::new()
        .layer(TimeoutLayer::new(millis(300)))
        .layer(RetryLayer::http(retry()))
        .map_err(Boxed::from)
        .buffer(8)
        .rate_limit(4, HOUR)
        .service(http());
    assert_eq!(send(&right, target.get()).await.unwrap().status(), 500);
    assert!(is_elapsed(&send(&right, target.get()).await.unwrap_err()));
    assert_eq!(target.requests(), 4);

    let target = Target::always(Act::Answer(500)).await;
    let wrong = ServiceBuilder::new()
        .buffer(8)
        .rate_limit(4, HOUR)
        .layer(RetryLayer::http(retry()))
        .service(http());
    for _ in 0..4 {
        assert_eq!(send(&wrong, target.get()).await.unwrap().status(), 500);
    }
    assert_eq!(target.requests(), 12, "three times the rate");
}

#[tokio::test]
async fn row_8_a_place_inside_the_retry_is_free_while_it_waits_and_outside_it_is_held() {
    let slowly = || {
        let wait = Backoff::constant(millis(400)).with_jitter(Jitter::None);
        retry_by(RetryPolicy::builder().backoff(wait))
    };
    for inside in [true, false] {
        let target = Target::start([Act::Answer(503)]).await;
        let limit = GlobalConcurrencyLimitLayer::new(1);
        let begun = Instant::now();
        let (waits, passes) = if inside {
            let service = RetryLayer::http(slowly()).layer(limit.layer(http()));
            both(&service, &target, begun).await
        } else {
            let service = limit.layer(RetryLayer::http(slowly()).layer(http()));
            both(&service, &target, begun).await
        };
        assert!(waits >= millis(400));
        assert_eq!(passes < millis(350), inside, "{passes:?}");
        assert_eq!(target.most_under_way(), 1);
    }
}

/// When the first call came back, which fails once, and when the second, which came just after.
async fn both<S>(service: &S, target: &Target, begun: Instant) -> (Duration, Duration)
where
    S: tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>> + Clone,
    S::Error: std::fmt::Debug,
{
    let first = async {
        send(service, target.get()).await.unwrap();
        begun.elapsed()
    };
    let second = async {
        tokio::time::sleep(millis(50)).await;
        send(service, target.get()).await.unwrap();
        begun.elapsed()
    };
    tokio::join!(first, second)
}

#[tokio::test]
async fn row_9_a_timeout_layers_time_begins_with_the_call_and_not_with_the_wait_for_a_place() {
    let target = Target::always(Act::Hang).await;
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(millis(200)))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(http());
    let call = || async { send(&service, target.get()).await.unwrap_err() };
    let begun = Instant::now();
    tokio::join!(call(), call(), call(), call());
    assert!(begun.elapsed() >= millis(800), "one waited for the other");

    let begun = Instant::now();
    let call = || async {
        let call = send(&service, target.get());
        assert!(tokio::time::timeout(millis(100), call).await.is_err());
    };
    tokio::join!(call(), call(), call(), call());
    assert!(begun.elapsed() < millis(700), "{:?}", begun.elapsed());
}

/// A limit that waits within an attempt's time makes the target look slow.
#[tokio::test]
async fn row_10_a_queue_inside_the_attempts_timeout_burdens_the_breaker_with_our_own_wait() {
    for queue_inside in [true, false] {
        let target = Target::always(Act::Late(millis(60))).await;
        let breaker = breaker_after(3);
        let breaking = CircuitBreakerLayer::new(&breaker).by(ByStatus);
        let within = TimeoutLayer::new(millis(400));
        let failed = if queue_inside {
            let service = ServiceBuilder::new()
                .layer(breaking)
                .map_err(Boxed::from)
                .layer(within)
                .buffer(32)
                .concurrency_limit(1)
                .service(http());
            twelve(&service, &target).await
        } else {
            let service = ServiceBuilder::new()
                .buffer(32)
                .concurrency_limit(1)
                .layer(breaking)
                .map_err(Boxed::from)
                .layer(within)
                .service(http());
            twelve(&service, &target).await
        };
        assert_eq!(failed > 0, queue_inside, "{failed}");
        assert_eq!(
            breaker.counts().failed > 0 || breaker.openings() > 0,
            queue_inside
        );
    }
}

/// How many of twelve calls at once fail.
async fn twelve<S>(service: &S, target: &Target) -> usize
where
    S: tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>> + Clone,
{
    let calls = (0..12).map(|_| async { usize::from(send(service, target.get()).await.is_err()) });
    futures_util::future::join_all(calls)
        .await
        .into_iter()
        .sum()
}
