//! A service behind the shop, and what stands between the two: a time limit around each attempt,
//! a breaker around that, and a retry around the breaker. One of each for the whole instance.

use std::{net::SocketAddr, time::Duration};

use buttress_circuit_breaker::{self as breaker, CircuitBreaker, OpenTime, Policy, Rate};
use buttress_core::Registry;
use buttress_retry_backoff::{
    Backoff, Budget, BudgetRule, MetricsObserver, Retry, RetryPolicy, TraceEvents,
    http::is_idempotent,
};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use super::{CallFailed, Unanswered, failure::ByVerdict};
use crate::telemetry;

/// So many attempts in a row that fail, and the service is down. Chance alone does that to a
/// service that fails a fifth of its calls once in ten million.
const DOWN_AFTER: u32 = 10;
/// A service that fails most of its calls and not all of them is down as well: so many of so many.
const MOST: Rate = Rate::percent(60);
const OF_THE_LAST: u32 = 40;
const AT_LEAST: u32 = 30;
/// While the one probe decides, calls wait for it so long.
const WAIT_FOR_PROBE: Duration = Duration::from_millis(200);
/// A call that is asked to wait longer before it is tried again gives up: who called it knows
/// better what to do with that time.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// Retries, on top of the calls themselves: a third of them, and ten a second.
const RETRIES: BudgetRule = BudgetRule::Tokens {
    ttl: Duration::from_secs(10),
    per_second: 10,
    ratio: 0.33,
};

/// What is particular about one service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) name: &'static str,
    /// How long one attempt may take.
    pub(super) attempt: Duration,
    pub(super) attempts: u32,
    /// How long all of them may take, with the waits between them.
    pub(super) total: Duration,
    /// For how long the breaker opens the first time, and at most.
    pub(super) open: (Duration, Duration),
}

/// Where a service is, and how it is called.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) http: reqwest::Client,
    base: String,
    attempt: Duration,
    breaker: CircuitBreaker,
    retry: Retry,
}

impl Endpoint {
    pub(super) fn new(
        http: &reqwest::Client,
        address: SocketAddr,
        terms: Terms,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let policy = Policy::builder()
            .consecutive_failures(DOWN_AFTER)
            .count_window(OF_THE_LAST)
            .minimum_calls(AT_LEAST)
            .failure_rate(MOST)
            .half_open_permits(1)
            .half_open_wait(WAIT_FOR_PROBE)
            .open_time(OpenTime::growing(terms.open.0, terms.open.1))
            .build()?;
        let retry = RetryPolicy::builder()
            .attempts(terms.attempts)
            .backoff(Backoff::exponential(Duration::from_millis(50)))
            .total_time(terms.total)
            .longest_wait(LONGEST_WAIT)
            // What any attempt may have done matters, not only the last.
            .keep_errors()
            .build()?;
        let retry = Retry::new(terms.name, retry)
            .with_budget(Budget::new(RETRIES)?)
            .with_observer(TraceEvents)
            .with_observer(MetricsObserver::new());
        retry.register(registry);
        Ok(Self {
            http: http.clone(),
            base: format!("http://{address}"),
            attempt: terms.attempt,
            breaker: CircuitBreaker::builder(terms.name)
                .policy(policy)
                .registry(registry)
                .observer(breaker::MetricsObserver::new())
                .build(),
            retry,
        })
    }

    /// For how long its breaker is still open, if it is: who need not ask now need not try.
    pub(super) fn paused_for(&self) -> Option<Duration> {
        self.breaker.retry_after().filter(|left| !left.is_zero())
    }

    /// What stands between the shop and the service, to be shared with other instances.
    pub(super) const fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends a request and reads its JSON answer (`()` where there is none), as often as the
    /// retry says. What may have been done is only sent again when its method, or a key that it
    /// carries, says that this has no second effect.
    ///
    /// It is a span, and the service's answer is part of its trace.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, Unanswered> {
        let name = self.breaker.name();
        let span = tracing::info_span!("call", otel.name = name, otel.kind = "client");
        let request = match telemetry::traceparent_of(&span) {
            Some(traceparent) => request.header(telemetry::TRACEPARENT, traceparent),
            None => request,
        };
        self.asked(request).instrument(span).await
    }

    async fn asked<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Unanswered> {
        let request = request.timeout(self.attempt);
        let built = request.try_clone().and_then(|it| it.build().ok());
        let call = self
            .retry
            .call_wrapped(|| {
                let attempt = attempt(request.try_clone());
                self.breaker.call(attempt).by(ByVerdict)
            })
            .classify(ByVerdict);
        Ok(match built {
            Some(it) if is_idempotent(it.method(), it.headers()) => call.idempotent().await?,
            _ => call.await?,
        })
    }
}

/// One attempt. A request is there: only one whose body is a stream could not be cloned.
async fn attempt<T: DeserializeOwned>(request: Option<RequestBuilder>) -> Result<T, CallFailed> {
    let request = request.ok_or(CallFailed::Unreadable)?;
    let response = CallFailed::check(request.send().await?)?;
    let body = response.bytes().await?;
    let body: &[u8] = if body.is_empty() { b"null" } else { &body };
    serde_json::from_slice(body).map_err(|_| CallFailed::Unreadable)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use buttress_circuit_breaker::State;
    use buttress_core::Clock;
    use buttress_error_envelope::ToProblem as _;

    use super::*;

    const TERMS: Terms = Terms {
        name: "nobody",
        attempt: Duration::from_millis(200),
        attempts: 3,
        total: Duration::from_secs(1),
        open: (Duration::from_secs(5), Duration::from_secs(5)),
    };

    /// Of a service whose port nobody listens on.
    fn nobody(registry: &Registry) -> Endpoint {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Endpoint::new(&http, address, TERMS, registry).unwrap()
    }

    /// Of a service that answers everything with this, and counts the requests.
    async fn answering(status: u16, wait: Option<&'static str>) -> (Endpoint, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let answer = move || {
            counted.fetch_add(1, Relaxed);
            let response = http::Response::builder().status(status);
            let response = match wait {
                Some(wait) => response.header("retry-after", wait),
                None => response,
            };
            std::future::ready(response.body(axum::body::Body::empty()).unwrap())
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async { axum::serve(listener, router).await });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let endpoint = Endpoint::new(&http, address, TERMS, &Registry::new()).unwrap();
        (endpoint, requests)
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_sent_again_only_with_a_key() {
        for (key, status, sent) in [
            (None, 500, 1),
            (Some("k"), 500, 3),
            (None, 429, 3),
            (Some("k"), 422, 1),
        ] {
            let (endpoint, requests) = answering(status, None).await;
            let mut request = endpoint.http.post(endpoint.url("/"));
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let failed = endpoint.ask::<()>(request).await.unwrap_err();
            assert_eq!(requests.load(Relaxed), sent, "{key:?} {status}");
            assert_eq!(failed.to_problem().to_string(), "UPSTREAM_FAILED (502)");
            assert_eq!(failed.may_be_done(), status == 500);
        }
    }

    #[tokio::test]
    async fn a_service_that_asks_to_be_left_alone_is_and_the_caller_is_told_for_how_long() {
        let (endpoint, requests) = answering(503, Some("2")).await;
        let asked = endpoint.http.get(endpoint.url("/"));
        let failed = endpoint.ask::<()>(asked).await.unwrap_err();
        assert_eq!(failed.asked_to_wait(), Some(Duration::from_secs(2)));
        assert_eq!(requests.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn an_open_breaker_costs_microseconds_and_says_when_to_come_back() {
        let registry = Registry::new();
        let endpoint = nobody(&registry);
        let ask = || endpoint.ask::<()>(endpoint.http.get(endpoint.url("/")));
        for failed in 0.. {
            assert!(failed <= 10, "it does not open");
            assert!(
                ask()
                    .await
                    .unwrap_err()
                    .asked_to_wait()
                    .is_none_or(|it| it > LONGEST_WAIT)
            );
            assert_eq!(
                endpoint.paused_for().is_some(),
                endpoint.breaker.state() == State::Open
            );
            if endpoint.paused_for().is_some() {
                break;
            }
        }
        let states: Vec<_> = registry
            .entries()
            .iter()
            .map(|it| (it.pattern(), it.state()))
            .collect();
        assert_eq!(
            states,
            [("retry_backoff", "ready"), ("circuit_breaker", "open")]
        );
        let clock = Clock::tokio();
        let mut took = Vec::new();
        for _ in 0..1000 {
            let begun = clock.now();
            let rejected = ask().await.unwrap_err();
            took.push(clock.now().saturating_since(begun));
            assert!(!rejected.was_tried() && !rejected.may_be_done());
            let shown = rejected.to_problem();
            assert_eq!(shown.to_string(), "CIRCUIT_OPEN (503)");
            assert!(shown.retry_after().is_some_and(|wait| wait.as_secs() > 3));
        }
        took.sort_unstable();
        println!("open: median {:?}, 99 % {:?}", took[500], took[990]);
        assert!(took[500] < Duration::from_millis(1), "{:?}", took[500]);
    }
}
