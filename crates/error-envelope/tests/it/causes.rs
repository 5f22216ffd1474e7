//! Errors of a stack, however deep their cause is, leave as what the cause says.

use std::{error::Error, future::ready, io, time::Duration};

use buttress_core::{Boxed, CallError, Fault, PublicFault, Rejection, RejectionKind, TimedOut};
use buttress_error_envelope::{
    Problem,
    client::RemoteProblem,
    tower::{BoxError, EnvelopeLayer},
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::stack::{Outcome, answer, ask, plain, request};

fn rejection(kind: RejectionKind) -> Rejection {
    Rejection::new(kind, "c4n4ry").with_retry_after(Duration::from_secs(3))
}

/// What an error of which nobody knows anything wraps around `cause`.
#[derive(Debug, thiserror::Error)]
#[error("c4n4ry")]
struct Wrap(#[source] BoxError);

#[derive(Debug, thiserror::Error)]
#[error("c4n4ry")]
struct Closed;

impl Fault for Closed {
    fn code(&self) -> &'static str {
        "TILL_CLOSED"
    }

    fn status(&self) -> u16 {
        409
    }

    fn public_message(&self) -> std::borrow::Cow<'_, str> {
        "Tomorrow again.".into()
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }
}

async fn overloaded() -> BoxError {
    let mut service = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(1)
        .service(service_fn(|_: ()| {
            std::future::pending::<Result<(), BoxError>>()
        }));
    let busy = service.ready().await.unwrap().call(());
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    drop(busy);
    error
}

async fn elapsed() -> BoxError {
    let hangs = service_fn(|_: ()| std::future::pending::<Result<(), BoxError>>());
    let service = ServiceBuilder::new().timeout(Duration::ZERO).service(hangs);
    service.oneshot(()).await.unwrap_err()
}

async fn tokios_elapsed() -> BoxError {
    let late = tokio::time::timeout(Duration::ZERO, std::future::pending::<()>()).await;
    late.unwrap_err().into()
}

/// The same error at each depth at which a stack may hold it.
fn depths(make: impl Fn() -> BoxError) -> Vec<BoxError> {
    let deep = (0..20).fold(make(), |cause, _| Wrap(cause).into());
    vec![
        make(),
        Wrap(make()).into(),
        Boxed::from(make()).into(),
        CallError::Failed(Boxed::from(make())).into(),
        io::Error::other(make()).into(),
        Wrap(io::Error::other(Wrap(make())).into()).into(),
        deep,
    ]
}

async fn leaves(error: BoxError) -> (u16, String, Option<String>) {
    let error = std::sync::Mutex::new(Some(error));
    let service = service_fn(move |_: Request<()>| {
        let error = error.lock().unwrap().take().unwrap();
        ready(Outcome::Err(error))
    });
    let layer = EnvelopeLayer::new().with_fault::<Closed>();
    let answer = ask(layer, service, request("GET", &[])).await;
    assert!(!format!("{answer:?}").contains("c4n4ry"), "{answer:?}");
    let source = answer.head.extensions.get::<Problem>().unwrap().source();
    assert!(source.is_some(), "the whole error is kept for the log");
    let wait = answer.header("retry-after").map(str::to_owned);
    (answer.status(), answer.code(), wait)
}

#[tokio::test]
async fn a_cause_that_is_known_decides_however_deep_it_is() {
    type Make = Box<dyn Fn() -> BoxError>;
    type Expected = (u16, &'static str, Option<&'static str>);
    let remote = |status| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        RemoteProblem::from_parts(status, &headers, br#"{"title":"c4n4ry"}"#)
    };
    let rejected = |kind| -> Make { Box::new(move || rejection(kind).into()) };
    let wrapped =
        |kind| -> Make { Box::new(move || CallError::<io::Error>::from(rejection(kind)).into()) };
    let table: [(Make, Expected); 13] = [
        (
            rejected(RejectionKind::CircuitOpen),
            (503, "CIRCUIT_OPEN", Some("3")),
        ),
        (
            wrapped(RejectionKind::CircuitOpen),
            (503, "CIRCUIT_OPEN", Some("3")),
        ),
        (
            wrapped(RejectionKind::RateLimited),
            (429, "RATE_LIMITED", Some("3")),
        ),
        (
            wrapped(RejectionKind::ConcurrencyLimited),
            (503, "CONCURRENCY_LIMITED", Some("3")),
        ),
        (
            wrapped(RejectionKind::DeadlineExceeded),
            (504, "DEADLINE_EXCEEDED", Some("3")),
        ),
        (
            wrapped(RejectionKind::Unavailable),
            (503, "UNAVAILABLE", Some("3")),
        ),
        (
            Box::new(|| TimedOut::new(Duration::ZERO).into()),
            (504, "UPSTREAM_TIMEOUT", None),
        ),
        (Box::new(|| Closed.into()), (409, "TILL_CLOSED", Some("60"))),
        (
            Box::new(|| PublicFault::of(&Closed).into()),
            (409, "TILL_CLOSED", Some("60")),
        ),
        (
            Box::new(|| {
                Problem::new(410, "SOLD_OUT", "Sold out.")
                    .with_source("c4n4ry")
                    .into()
            }),
            (410, "SOLD_OUT", None),
        ),
        (
            Box::new(move || remote(404).into()),
            (502, "UPSTREAM_FAILED", None),
        ),
        (
            Box::new(move || remote(429).into()),
            (503, "UNAVAILABLE", Some("7")),
        ),
        (Box::new(|| "c4n4ry".into()), (500, "INTERNAL", None)),
    ];
    for (make, (status, code, wait)) in table {
        for error in depths(make) {
            let told = format!("{error:?}");
            let expected = (status, code.to_owned(), wait.map(str::to_owned));
            assert_eq!(leaves(error).await, expected, "{told}");
        }
    }
}

#[tokio::test]
async fn the_refusals_of_towers_own_layers_are_known() {
    for (error, status, code) in [
        (elapsed().await, 504, "UPSTREAM_TIMEOUT"),
        (tokios_elapsed().await, 504, "UPSTREAM_TIMEOUT"),
        (overloaded().await, 503, "UNAVAILABLE"),
    ] {
        let error = CallError::Failed(Boxed::from(error)).into();
        assert_eq!(leaves(error).await, (status, code.to_owned(), None));
    }
}

#[tokio::test]
async fn the_outermost_cause_that_is_known_decides_and_rules_of_the_user_go_first() {
    let shown = Problem::new(410, "SOLD_OUT", "Sold out.");
    let error = || -> BoxError {
        Wrap(
            Problem::new(409, "CONFLICT", "No.")
                .with_source(Closed)
                .into(),
        )
        .into()
    };
    assert_eq!(leaves(error()).await.1, "CONFLICT");
    let layer = EnvelopeLayer::new()
        .with_fault::<Closed>()
        .with_error(move |cause| cause.is::<Problem>().then(|| shown.clone()));
    let service = service_fn(move |_: Request<()>| ready(Outcome::Err(error())));
    let answer = ask(layer, service, request("GET", &[])).await;
    assert_eq!(answer.code(), "SOLD_OUT");
}

#[derive(Debug)]
struct Endless;

impl std::fmt::Display for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("c4n4ry")
    }
}

impl Error for Endless {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&Self)
    }
}

#[tokio::test]
async fn an_error_that_is_its_own_cause_ends() {
    assert_eq!(leaves(Endless.into()).await.1, "INTERNAL");
}

#[tokio::test]
async fn what_a_layer_within_answered_keeps_its_code_and_its_headers() {
    let make = |status: u16| {
        move || {
            let mut response = plain(status, "c4n4ry").unwrap();
            response.extensions_mut().insert(PublicFault::of(&Closed));
            response
                .headers_mut()
                .insert("ratelimit", "7".parse().unwrap());
            Ok(response)
        }
    };
    let refused = answer(make(409), request("GET", &[])).await;
    assert_eq!((refused.status(), &*refused.code()), (409, "TILL_CLOSED"));
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(refused.header("ratelimit"), Some("7"));
    // Somebody chose another status: then that is what it is.
    assert_eq!(
        answer(make(403), request("GET", &[])).await.code(),
        "FORBIDDEN"
    );
    let fine: Response<Full<_>> = make(200)().unwrap();
    assert!(fine.extensions().get::<PublicFault>().is_some());
    assert_eq!(answer(make(200), request("GET", &[])).await.bytes, "c4n4ry");
}
