//! Layers that are applied twice, or anew for each request and connection, as axum does it.

use axum::{Router, error_handling::HandleErrorLayer};
use buttress_circuit_breaker::{State, tower::CircuitBreakerLayer};
use buttress_retry_backoff::{Budget, BudgetRule, http::ByStatus, tower::RetryLayer};
use http::Uri;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::{Layer, ServiceBuilder, util::MapRequestLayer};

use super::{bad_gateway, breaker_after, http, retry, send};
use crate::target::{Act, Target};

/// A service that passes requests on to `target`, and its address.
async fn gateway(router: Router) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, serving)
}

#[tokio::test]
async fn fresh_connections_and_fresh_layers_share_one_breaker_and_one_budget() {
    let target = Target::always(Act::Answer(503)).await;
    let breaker = breaker_after(7);
    // It pays for two retries.
    let rule = BudgetRule::Quota {
        capacity: 10,
        error: 5,
        timeout: 5,
        throttled: 5,
    };
    let budget = Budget::new(rule).unwrap();
    let retry = RetryLayer::http(retry().with_budget(budget.clone())).unwrapped();
    let breaking = CircuitBreakerLayer::new(&breaker).by(ByStatus);
    let to: Uri = target.url().parse().unwrap();
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(bad_gateway))
        .layer(MapRequestLayer::new(
            move |mut request: axum::extract::Request| {
                *request.uri_mut() = to.clone();
                request
            },
        ))
        .layer(retry)
        .layer(breaking);
    let router = Router::new().fallback_service(layers.service(http()));
    let (url, serving) = gateway(router).await;

    let mut statuses = Vec::new();
    for _ in 0..6 {
        // A new client makes a new connection.
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        statuses.push(client.get(&url).send().await.unwrap().status().as_u16());
    }
    // The first call has two retries and used the budget up; then one attempt each, until the
    // seventh failure opens the breaker.
    assert_eq!((target.requests(), budget.available()), (7, 0));
    assert_eq!((breaker.state(), statuses), (State::Open, vec![503; 6]));
    serving.abort();
}

#[tokio::test]
async fn a_stack_that_is_applied_anew_for_each_call_has_one_state() {
    let target = Target::always(Act::Answer(500)).await;
    let breaker = breaker_after(5);
    let retry = RetryLayer::http(retry()).unwrapped();
    let breaking = CircuitBreakerLayer::new(&breaker).by(ByStatus);
    for _ in 0..4 {
        let fresh = retry.layer(breaking.layer(http()));
        // 500 while it is closed, a rejection from the fifth failure on.
        let _ = send(&fresh, target.get()).await;
    }
    assert_eq!((breaker.state(), target.requests()), (State::Open, 5));
}

/// Twice is never right: attempts multiply, and the inner breaker's rejections are the outer one's
/// failures. But nothing breaks, and nothing is counted twice by the inner one.
#[tokio::test]
async fn layers_applied_twice_multiply_attempts_and_lose_nothing() {
    let target = Target::always(Act::Answer(500)).await;
    let once = RetryLayer::http(retry());
    let twice = once.layer(once.layer(http()));
    assert_eq!(send(&twice, target.get()).await.unwrap().status(), 500);
    assert_eq!(target.requests(), 9);

    let target = Target::start([]).await;
    let breaker = breaker_after(5);
    let breaking = CircuitBreakerLayer::new(&breaker).by(ByStatus);
    let twice = breaking.layer(breaking.layer(http()));
    for _ in 0..10 {
        assert_eq!(send(&twice, target.get()).await.unwrap().status(), 200);
    }
    assert_eq!((breaker.state(), target.requests()), (State::Closed, 10));
}
