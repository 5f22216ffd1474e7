//! A breaker inside the retry: what it rejects is not hammered, and is waited for as far as the
//! deadline goes.

use buttress_circuit_breaker::{
    CircuitBreaker, Policy, State,
    tower::{CircuitBreakerLayer, CircuitBreakerService},
};
use buttress_core::RejectionKind;
use buttress_retry_backoff::{
    Failure, RetryAfterRule, RetryPolicy, RetryPolicyBuilder, Stopped,
    http::ByStatus,
    tower::{HttpReplay, ReplayBody, RetryLayer, RetryService, Unwrapped},
};
use bytes::Bytes;
use http_body_util::Full;
use tower::ServiceBuilder;

use super::{Http, breaker, http, millis, retry_by, timed};
use crate::target::{Act, Target};

type Body = ReplayBody<Full<Bytes>>;
type Stack =
    RetryService<CircuitBreakerService<Http<Body>, ByStatus>, ByStatus, HttpReplay, Unwrapped>;

fn stack(breaker: &CircuitBreaker, policy: RetryPolicyBuilder) -> Stack {
    ServiceBuilder::new()
        .layer(RetryLayer::http(retry_by(policy)).unwrapped())
        .layer(CircuitBreakerLayer::new(breaker).by(ByStatus))
        .service(http())
}

fn many_attempts() -> RetryPolicyBuilder {
    RetryPolicy::builder()
        .unlimited_attempts()
        .backoff(buttress_retry_backoff::Backoff::none())
        .retry_after(RetryAfterRule::Exact)
}

#[tokio::test]
async fn a_rejection_that_lasts_longer_than_the_deadline_is_not_waited_for() {
    let (target, breaker) = (Target::start([]).await, breaker(Policy::builder()));
    breaker.open_for(millis(10_000));
    let service = stack(&breaker, many_attempts().total_time(millis(5000)));
    let (result, took) = timed(&service, target.get()).await;
    let error = result.unwrap_err();
    assert_eq!((error.stopped(), error.attempts()), (Stopped::Time, 1));
    let Failure::Rejected(rejection) = error.failure() else {
        panic!("{error:?}")
    };
    assert_eq!(rejection.kind(), RejectionKind::CircuitOpen);
    assert!(rejection.retry_after() > Some(millis(5000)));
    assert!(took < millis(1000), "{took:?}");
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn a_rejection_within_the_deadline_is_waited_for_and_asked_once() {
    let (target, breaker) = (Target::start([]).await, breaker(Policy::builder()));
    breaker.open_for(millis(300));
    let service = stack(&breaker, many_attempts().total_time(millis(5000)));
    let (result, took) = timed(&service, target.get()).await;
    assert_eq!(result.unwrap().status(), 200);
    assert!((millis(295)..millis(3000)).contains(&took), "{took:?}");
    assert_eq!((target.requests(), breaker.state()), (1, State::Closed));
}

/// The open time that a call itself has caused is waited for in the same way.
#[tokio::test]
async fn a_call_that_opens_the_breaker_waits_for_it_and_is_its_probe() {
    let target = Target::start([Act::Answer(500), Act::Answer(500)]).await;
    let open = buttress_circuit_breaker::OpenTime::fixed(millis(200));
    let policy = Policy::consecutive_failures(2).unwrap();
    assert_eq!(policy, policy.clone());
    let policy = Policy::builder()
        .no_window()
        .consecutive_failures(2)
        .half_open_permits(1)
        .open_time(open);
    let breaker = CircuitBreaker::builder("target")
        .policy(policy.build().unwrap())
        .build();
    let service = stack(&breaker, many_attempts().total_time(millis(5000)));
    let (result, took) = timed(&service, target.get()).await;
    assert_eq!(result.unwrap().status(), 200);
    assert!(took >= millis(195), "{took:?}");
    assert_eq!((target.requests(), breaker.state()), (3, State::Closed));
}

#[tokio::test]
async fn a_rejection_without_a_time_ends_the_call() {
    let (target, breaker) = (Target::start([]).await, breaker(Policy::builder()));
    breaker.force_open();
    let service = stack(&breaker, many_attempts());
    let (result, _) = timed(&service, target.get()).await;
    let error = result.unwrap_err();
    assert_eq!((error.stopped(), error.attempts()), (Stopped::Rejected, 1));
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn what_the_target_asks_for_is_waited_for_and_makes_the_breaker_open_as_long() {
    let target = Target::start([Act::Busy(1)]).await;
    let calm = breaker(Policy::builder());
    let service = stack(&calm, many_attempts().total_time(millis(5000)));
    let (result, took) = timed(&service, target.get()).await;
    assert_eq!(result.unwrap().status(), 200);
    assert!(took >= millis(995), "{took:?}");

    let target = Target::start([Act::Busy(3)]).await;
    let open = buttress_circuit_breaker::OpenTime::growing(millis(100), millis(10_000));
    let policy = Policy::builder()
        .no_window()
        .consecutive_failures(1)
        .open_time(open);
    let breaker = CircuitBreaker::builder("target")
        .policy(policy.build().unwrap())
        .build();
    let service = stack(&breaker, many_attempts().total_time(millis(1000)));
    let (result, _) = timed(&service, target.get()).await;
    assert_eq!(
        result.unwrap().status(),
        503,
        "three seconds are too long to wait"
    );
    assert!(breaker.retry_after() > Some(millis(2000)));
}
