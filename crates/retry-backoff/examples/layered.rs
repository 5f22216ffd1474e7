//! Two layers around an HTTP service that is flaky and at times slow, and the time that a request
//! has: `cargo run -p buttress-retry-backoff --example layered --features http,tower`.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use buttress_retry_backoff::{
    Backoff, Budget, BudgetRule, Deadline, Retry, RetryPolicy,
    hedge::{Hedge, HedgeDelay},
    tower::{HedgeLayer, ReplayBody, RetryLayer},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt};

type Body = ReplayBody<ReplayBody<Full<Bytes>>>;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = RetryPolicy::builder()
        .attempts(4)
        .backoff(Backoff::exponential(Duration::from_millis(20)))
        .build()?;
    // Both pay from one budget: together they add a fifth of the calls at most.
    let budget = Budget::new(BudgetRule::tokens())?;
    let retry = Retry::new("stock", policy).with_budget(budget.clone());
    let slow = HedgeDelay::After(Duration::from_millis(30));
    let hedge = Hedge::new("stock", slow, 1)?.with_budget(budget);

    let asked = AtomicU32::new(0);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::http(retry))
        .layer(HedgeLayer::http(hedge))
        .service_fn(|request: Request<Body>| {
            let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
            let left = request.extensions().get::<Deadline>().map(Deadline::left);
            println!("request {number}, with {left:?} left");
            async move {
                let (wait, status) = match number {
                    1 | 2 => (1, 503), // the hedge is begun at once, and fails too: a retry
                    3 => (5_000, 200), // too slow: the one beside it wins
                    _ => (10, 200),
                };
                tokio::time::sleep(Duration::from_millis(wait)).await;
                Response::builder().status(status).body(())
            }
        });

    let mut request = Request::get("/stock/7").body(Full::<Bytes>::default())?;
    let deadline = Deadline::after(Duration::from_secs(1));
    request.extensions_mut().insert(deadline);
    let response = service.oneshot(request).await?;
    println!("{} after {asked:?} requests", response.status());
    Ok(())
}
