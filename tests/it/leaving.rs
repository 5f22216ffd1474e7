//! How what the siblings refuse leaves: with its own code and time to come back, whatever is around
//! it, without an edge between the crates; and as what it is read back at the other end. Over
//! hyper, without axum.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use buttress_circuit_breaker::tower::CircuitBreakerLayer;
use buttress_core::Boxed;
use buttress_error_envelope::{
    client::{
        RemoteForm,
        reqwest::{RemoteError, send},
    },
    tower::{BoxError, EnvelopeLayer},
};
use buttress_idempotency::{Idempotency, Scope, store::MemoryStore, tower::IdempotencyLayer};
use buttress_rate_limiter::{
    KeyedRateLimiter, Quota, RateLimiter,
    http::{Client, Fields},
    tower::{HttpRateLimitLayer, RateLimitLayer},
};
use buttress_retry_backoff::{http::ByStatus, tower::RetryLayer};
use buttress_store::{Phase, StoreError, StoreErrorKind};
use bytes::Bytes;
use futures_util::future::pending;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::{Service, ServiceBuilder, ServiceExt as _};

use crate::stacks::{breaker, millis, retry, retry_by, three_attempts};

type Asked = Request<Full<Bytes>>;
type Answered = Response<Full<Bytes>>;

/// A service behind the envelope, on a port of its own. Ends with its owner.
struct Served {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What another service is told in one form.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    code: String,
    waits: bool,
}

fn told(status: u16, code: &str, waits: bool) -> Told {
    Told {
        status,
        code: code.to_owned(),
        waits,
    }
}

impl Served {
    async fn by<S, B>(stack: S) -> Self
    where
        S: Service<Asked, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let layer = EnvelopeLayer::new().with_fault::<StoreError>();
        let stack = ServiceBuilder::new().layer(layer).service(stack);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stack = stack.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let stack = stack.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let request = Request::from_parts(head, Full::new(body));
                        stack.oneshot(request).await
                    }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async { drop(connection.await) });
            }
        });
        Self { address, serving }
    }

    fn post(&self, body: &'static str) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client
            .post(format!("http://{}/orders", self.address))
            .body(body)
    }

    /// The same refusal in both forms.
    async fn refuses(
        &self,
        request: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Told {
        let mut both = Vec::new();
        for (accept, form) in [
            ("*/*", RemoteForm::Envelope),
            ("application/problem+json", RemoteForm::ProblemJson),
        ] {
            let error = send(request(self.post("an order")).header("accept", accept))
                .await
                .unwrap_err();
            let RemoteError::Answered(problem) = &error else {
                panic!("{error:?}")
            };
            assert_eq!(problem.form(), form);
            let all = format!(
                "{:?} {:?} {:?}",
                problem.detail(),
                problem.extensions(),
                problem.title()
            );
            assert!(!all.contains("c4n4ry"), "{all}");
            assert!(problem.request_id().is_some() && problem.is_complete());
            both.push(Told {
                status: problem.status().as_u16(),
                code: problem.code().unwrap().to_owned(),
                waits: problem.retry_after().is_some(),
            });
        }
        let [one, other] = <[Told; 2]>::try_from(both).unwrap();
        assert_eq!(one, other);
        one
    }

    async fn refuses_plainly(&self) -> Told {
        self.refuses(|request| request).await
    }
}

async fn fine<E>(_: Asked) -> Result<Answered, E> {
    Ok(Response::new(Full::from("fine")))
}

async fn hangs<E>(_: Asked) -> Result<Answered, E> {
    pending().await
}

#[tokio::test]
async fn an_open_breaker_is_503_with_its_time_alone_and_within_a_retry() {
    let breaker = breaker(buttress_circuit_breaker::Policy::builder());
    breaker.open_for(millis(60_000));
    let layer = CircuitBreakerLayer::new(&breaker).by(ByStatus);
    let alone = ServiceBuilder::new()
        .layer(layer.clone())
        .service_fn(fine::<io::Error>);
    let short = retry_by(three_attempts().longest_wait(millis(1)));
    let retried = ServiceBuilder::new()
        .layer(RetryLayer::new(short, ByStatus).unwrapped())
        .layer(layer)
        .service_fn(fine::<io::Error>);
    let expected = told(503, "CIRCUIT_OPEN", true);
    assert_eq!(Served::by(alone).await.refuses_plainly().await, expected);
    assert_eq!(Served::by(retried).await.refuses_plainly().await, expected);
}

#[tokio::test]
async fn a_limit_is_429_with_its_time_whether_it_fails_or_answers() {
    let quota = || Quota::per_minute(1).unwrap();
    let one = RateLimiter::new("c4n4ry", quota()).unwrap();
    assert!(one.check().is_allowed());
    let fails = ServiceBuilder::new()
        .layer(RateLimitLayer::new(one))
        .service_fn(fine::<io::Error>);
    let expected = told(429, "RATE_LIMITED", true);
    assert_eq!(Served::by(fails).await.refuses_plainly().await, expected);

    let each = KeyedRateLimiter::new("c4n4ry", quota()).unwrap();
    let client = Client::by(|_| Some(b"c4n4ry".to_vec()));
    let layer = HttpRateLimitLayer::new(each, client).fields(Fields::Draft10);
    let answers = ServiceBuilder::new().layer(layer).service_fn(fine_text);
    let served = Served::by(answers).await;
    assert!(send(served.post("")).await.is_ok());
    assert_eq!(served.refuses_plainly().await, expected);
    // Its fields stay beside the problem.
    let response = served.post("").send().await.unwrap();
    assert!(response.headers().contains_key("ratelimit"));
}

async fn fine_text(_: Asked) -> Result<Response<String>, Infallible> {
    Ok(Response::new("fine".to_owned()))
}

#[tokio::test]
async fn what_a_key_refuses_keeps_its_own_code() {
    let begun = std::sync::Arc::new(tokio::sync::Notify::new());
    let (begins, waits) = (std::sync::Arc::clone(&begun), begun.notified());
    let idempotency = Idempotency::new(MemoryStore::new());
    let scope = |head: &http::request::Parts| Some(Scope::of([head.headers.get("x-caller")?]));
    let stack = ServiceBuilder::new()
        .layer(IdempotencyLayer::new(idempotency, scope))
        .service_fn(
            move |request: Request<buttress_idempotency::tower::RequestBody<Full<Bytes>>>| {
                let begins = std::sync::Arc::clone(&begins);
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    if body == "slow" {
                        begins.notify_one();
                        pending::<()>().await;
                    }
                    Ok::<_, Infallible>(Response::new(Full::from("placed")))
                }
            },
        );
    let served = Served::by(stack).await;
    let keyed = |key: &'static str| {
        move |request: reqwest::RequestBuilder| {
            request
                .header("x-caller", "alice")
                .header("idempotency-key", key)
        }
    };
    assert_eq!(
        served.refuses_plainly().await,
        told(400, "IDEMPOTENCY_KEY_MISSING", false)
    );
    let nobody = served
        .refuses(|request| request.header("idempotency-key", "a"))
        .await;
    assert_eq!(nobody, told(401, "UNAUTHENTICATED", false));

    assert!(send(keyed("a")(served.post("another"))).await.is_ok());
    assert_eq!(
        served.refuses(keyed("a")).await,
        told(422, "IDEMPOTENCY_KEY_REUSED", false)
    );

    let first = tokio::spawn(keyed("b")(served.post("slow")).send());
    waits.await;
    let second = |request| keyed("b")(request).body("slow");
    assert_eq!(
        served.refuses(second).await,
        told(409, "IDEMPOTENCY_KEY_IN_USE", true)
    );
    first.abort();
}

#[tokio::test]
async fn time_that_is_over_is_504_wherever_the_limit_stands() {
    let expected = told(504, "UPSTREAM_TIMEOUT", false);
    let attempts = retry_by(three_attempts().attempt_timeout(millis(20)));
    let retried = ServiceBuilder::new()
        .layer(RetryLayer::new(attempts, ByStatus))
        .service_fn(hangs::<io::Error>);
    assert_eq!(Served::by(retried).await.refuses_plainly().await, expected);

    // tower's own, within a breaker within a retry: a box in between is made an error.
    let breaker = breaker(buttress_circuit_breaker::Policy::builder());
    let deep = ServiceBuilder::new()
        .layer(RetryLayer::new(retry(), ByStatus).unwrapped())
        .layer(CircuitBreakerLayer::new(&breaker).by(ByStatus))
        .map_err(Boxed::from)
        .timeout(millis(20))
        .service_fn(hangs::<io::Error>);
    assert_eq!(Served::by(deep).await.refuses_plainly().await, expected);
    let outside = ServiceBuilder::new()
        .timeout(millis(20))
        .layer(RetryLayer::new(retry(), ByStatus))
        .service_fn(hangs::<io::Error>);
    assert_eq!(Served::by(outside).await.refuses_plainly().await, expected);
}

#[tokio::test]
async fn a_fault_that_the_layer_was_told_of_is_found_within_a_call() {
    let down = || StoreError::new(StoreErrorKind::Lost, Phase::Read);
    let breaker = breaker(buttress_circuit_breaker::Policy::builder());
    let stack = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(&breaker).by(ByStatus))
        .service_fn(move |_: Asked| async move { Err::<Answered, _>(io::Error::other(down())) });
    let expected = told(503, "UNAVAILABLE", true);
    assert_eq!(Served::by(stack).await.refuses_plainly().await, expected);
}

#[tokio::test]
async fn what_nobody_knows_is_the_opaque_500() {
    let stack = tower::service_fn(|_: Asked| async {
        Err::<Answered, _>(io::Error::other("postgres://shop:c4n4ry@db/shop"))
    });
    let expected = told(500, "INTERNAL", false);
    assert_eq!(Served::by(stack).await.refuses_plainly().await, expected);
}

/// The other end of a chain of services: what the one behind refused leaves the one in front as a
/// failure of its own, with the time to come back and none of the words.
#[tokio::test]
async fn a_service_in_front_of_another_says_nothing_of_what_it_was_told() {
    let breaker = breaker(buttress_circuit_breaker::Policy::builder());
    breaker.open_for(millis(60_000));
    let layer = CircuitBreakerLayer::new(&breaker).by(ByStatus);
    let behind = ServiceBuilder::new()
        .layer(layer)
        .service_fn(fine::<io::Error>);
    let behind = std::sync::Arc::new(Served::by(behind).await);
    let front = tower::service_fn(move |_: Asked| {
        let behind = std::sync::Arc::clone(&behind);
        async move {
            send(behind.post("an order")).await?;
            Ok::<Answered, RemoteError>(Response::new(Full::from("fine")))
        }
    });
    let front = Served::by(front).await;
    assert_eq!(
        front.refuses_plainly().await,
        told(503, "UNAVAILABLE", true)
    );
    let wait = Duration::from_secs(61);
    let error = send(front.post("")).await.unwrap_err();
    assert!(
        error
            .verdict()
            .retry_after()
            .is_some_and(|asked| asked <= wait)
    );
}
