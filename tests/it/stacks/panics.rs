//! A panic in the service inside.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{Router, body::Body, error_handling::HandleErrorLayer, extract::Request};
use buttress_circuit_breaker::{
    CircuitBreaker, OpenTime, Policy, State, tower::CircuitBreakerLayer,
};
use buttress_error_envelope::tower::EnvelopeLayer;
use buttress_retry_backoff::{
    Budget, BudgetRule,
    http::ByStatus,
    tower::{ReplayBody, RetryLayer},
};
use http::Response;
use tower::ServiceBuilder;

use super::{bad_gateway, millis, retry_by, three_attempts};

/// Panics the first `panics` times, and then answers.
#[expect(
    clippy::unused_async,
    reason = "it panics when it is polled, not when it is made"
)]
async fn answer(panics: &AtomicUsize) -> Result<Response<Body>, Infallible> {
    let left = panics.load(SeqCst);
    panics.store(left.saturating_sub(1), SeqCst);
    assert!(left == 0, "on purpose");
    Ok(Response::new(Body::from("well")))
}

#[tokio::test]
async fn a_panic_is_a_failure_gives_everything_back_and_leaves_as_500() {
    let panics = Arc::new(AtomicUsize::new(3));
    let policy = Policy::builder()
        .no_window()
        .consecutive_failures(2)
        .half_open_permits(1)
        .half_open_limit(None)
        .open_time(OpenTime::fixed(millis(50)));
    let breaker = CircuitBreaker::builder("target")
        .policy(policy.build().unwrap())
        .build();
    let budget = Budget::new(BudgetRule::share()).unwrap();
    let free = budget.available();

    let service = {
        let panics = Arc::clone(&panics);
        tower::service_fn(move |_: Request<ReplayBody<Body>>| {
            let panics = Arc::clone(&panics);
            async move { answer(&panics).await }
        })
    };
    // It does not wait for the breaker, so that each request shows what the breaker says.
    let retry = retry_by(three_attempts().longest_wait(millis(1)));
    let stack = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(bad_gateway))
        .layer(RetryLayer::http(retry.with_budget(budget.clone())).unwrapped())
        .layer(CircuitBreakerLayer::new(&breaker).by(ByStatus))
        .service(service);
    let router = Router::new()
        .fallback_service(stack)
        .layer(EnvelopeLayer::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async || client.get(&url).send().await.unwrap().status().as_u16();
    // Two panics open it; a retry does not repeat a panic, for nobody is left to do so.
    assert_eq!([get().await, get().await], [500, 500]);
    assert_eq!((breaker.state(), get().await), (State::Open, 503));
    tokio::time::sleep(millis(60)).await;
    // The probe panics as well: its slot is free again, or no other would ever be let through.
    assert_eq!((get().await, breaker.state()), (500, State::Open));
    tokio::time::sleep(millis(60)).await;
    assert_eq!((get().await, breaker.state()), (200, State::Closed));
    assert_eq!((budget.available(), panics.load(SeqCst)), (free, 0));
    serving.abort();
}
