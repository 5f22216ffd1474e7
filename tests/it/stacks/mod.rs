//! Layers in this order and in that one. Each row of the table in docs/patterns/layers.md has a
//! test, which shows what is right in one order and what goes wrong in the other.

mod applied;
mod order;
mod panics;
mod post;
mod rejections;
mod with_limits;

use std::time::{Duration, Instant};

use buttress_circuit_breaker::{CircuitBreaker, OpenTime, Policy, PolicyBuilder};
pub(crate) use buttress_core::Boxed;
use buttress_core::Fault as _;
use buttress_retry_backoff::{
    Backoff, Failure, Retry, RetryError, RetryPolicy, RetryPolicyBuilder,
};
use http::StatusCode;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{BoxError, Service, ServiceExt as _, timeout::error::Elapsed};

/// hyper's client, as a service.
pub(crate) type Http<B> = Client<HttpConnector, B>;

pub(crate) fn http<B>() -> Http<B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

/// One that opens after so many failures in a row, for longer than a test takes.
pub(crate) fn breaker_after(failures: u32) -> CircuitBreaker {
    breaker(Policy::builder().no_window().consecutive_failures(failures))
}

pub(crate) fn breaker(policy: PolicyBuilder) -> CircuitBreaker {
    // Longer than the retry's bound on what it waits for, too.
    let long = OpenTime::fixed(Duration::from_secs(3600));
    let policy = policy.open_time(long).half_open_permits(1).build().unwrap();
    CircuitBreaker::builder("target").policy(policy).build()
}

/// Three attempts, without waits.
pub(crate) fn retry() -> Retry {
    retry_by(three_attempts())
}

pub(crate) fn three_attempts() -> RetryPolicyBuilder {
    RetryPolicy::builder().attempts(3).backoff(Backoff::none())
}

pub(crate) fn retry_by(policy: RetryPolicyBuilder) -> Retry {
    Retry::new("target", policy.build().unwrap())
}

/// One call of a service that goes on to be used.
pub(crate) async fn send<S, R>(service: &S, request: R) -> Result<S::Response, S::Error>
where
    S: Service<R> + Clone,
{
    service.clone().oneshot(request).await
}

/// The same, and how long it took.
async fn timed<S, R>(service: &S, request: R) -> (Result<S::Response, S::Error>, Duration)
where
    S: Service<R> + Clone,
{
    let begun = Instant::now();
    (send(service, request).await, begun.elapsed())
}

fn is_elapsed(error: &BoxError) -> bool {
    error.is::<Elapsed>()
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How a gateway answers when its stack fails.
async fn bad_gateway<E>(error: RetryError<E>) -> StatusCode {
    match error.into_failure() {
        Failure::Rejected(rejection) => StatusCode::from_u16(rejection.status()).unwrap(),
        Failure::Failed(_) | Failure::TimedOut(_) => StatusCode::BAD_GATEWAY,
    }
}
