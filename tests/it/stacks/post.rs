//! The whole stack, and requests that must not have a second effect.

use buttress_circuit_breaker::tower::CircuitBreakerLayer;
use tower::{ServiceBuilder, timeout::TimeoutLayer};

use super::{Boxed, breaker_after, http, millis, retry, send};
use crate::target::{Act, Target};
use buttress_retry_backoff::{http::ByStatus, tower::RetryLayer};

/// Sends one POST through all layers: its status, the requests that came, the effects they had.
async fn post(act: Act, key: Option<&str>) -> (Option<u16>, usize, usize) {
    let target = Target::start([act]).await;
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(millis(2000)))
        .layer(RetryLayer::http(retry()).unwrapped())
        .layer(CircuitBreakerLayer::new(&breaker_after(10)).by(ByStatus))
        .map_err(Boxed::from)
        .layer(TimeoutLayer::new(millis(150)))
        .service(http());
    let result = send(&service, target.post(key)).await;
    let status = result.ok().map(|response| response.status().as_u16());
    (status, target.requests(), target.effects())
}

#[tokio::test]
async fn a_post_without_a_key_is_not_repeated_once_it_may_have_been_done() {
    for (act, expected) in [
        (Act::DoneThen(500), (Some(500), 1, 1)),
        (Act::DoneThen(503), (Some(503), 1, 1)),
        (Act::DoneThenCut, (None, 1, 1)),
        (Act::Hang, (None, 1, 1)),
        (Act::Late(millis(1000)), (None, 1, 1)),
    ] {
        assert_eq!(post(act, None).await, expected, "{act:?}");
    }
}

#[tokio::test]
async fn a_post_without_a_key_is_repeated_when_it_was_certainly_not_done() {
    for act in [Act::Answer(429), Act::Answer(408), Act::Answer(425)] {
        assert_eq!(post(act, None).await, (Some(200), 2, 1), "{act:?}");
    }
    for act in [Act::Answer(400), Act::Answer(409), Act::Answer(501)] {
        let (_, requests, effects) = post(act, None).await;
        assert_eq!((requests, effects), (1, 0), "{act:?}");
    }
}

#[tokio::test]
async fn a_post_with_a_key_is_repeated_and_has_one_effect() {
    for act in [
        Act::DoneThen(500),
        Act::DoneThen(503),
        Act::DoneThenCut,
        Act::Hang,
        Act::Late(millis(1000)),
        Act::Answer(429),
    ] {
        assert_eq!(post(act, Some("k")).await, (Some(200), 2, 1), "{act:?}");
    }
}
