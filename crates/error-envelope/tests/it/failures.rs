//! A service that fails, panics or is not ready, behind the layer.

use std::{
    future::{Future, pending, ready},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{CallError, Rejection, RejectionKind};
use buttress_error_envelope::{
    Problem,
    tower::{BoxError, EnvelopeLayer},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::stack::{Outcome, PROBLEM_JSON, answer, ask, plain, rendered, request};

#[tokio::test]
async fn the_layer_may_be_told_what_stands_for_a_status() {
    let layer = EnvelopeLayer::new()
        .with_status(
            StatusCode::NOT_FOUND,
            Problem::new(404, "NO_PAGE", "No page."),
        )
        .with_status(
            StatusCode::REQUEST_TIMEOUT,
            Problem::new(504, "TOO_SLOW", "Too slow.").with_retry_after(Duration::from_secs(2)),
        );
    for (status, expected, code, wait) in [
        (404, 404, "NO_PAGE", None),
        (408, 504, "TOO_SLOW", Some("2")),
        (405, 405, "METHOD_NOT_ALLOWED", None),
    ] {
        let service = service_fn(move |_: Request<()>| ready(plain(status, "")));
        let answer = ask(layer.clone(), service, request("GET", &[])).await;
        assert_eq!((answer.status(), &*answer.code()), (expected, code));
        assert_eq!(answer.header("retry-after"), wait);
    }
    // A problem of the service's own is not the layer's to replace.
    let own = Problem::new(404, "ORDER_NOT_FOUND", "None.");
    let service = service_fn(move |_: Request<()>| ready(rendered(&own)));
    let answer = ask(layer, service, request("GET", &[])).await;
    assert_eq!(answer.code(), "ORDER_NOT_FOUND");
}

#[tokio::test]
async fn an_error_of_the_service_is_the_opaque_500_unless_it_is_a_problem_or_is_known() {
    let opaque = answer(|| Err("c4n4ry".into()), request("GET", &[])).await;
    assert_eq!((opaque.status(), &*opaque.code()), (500, "INTERNAL"));
    assert!(!format!("{opaque:?}").contains("c4n4ry"));

    let problem = || Err(Problem::new(409, "CONFLICT", "No.").into());
    let problem = answer(problem, request("GET", &[])).await;
    assert_eq!((problem.status(), &*problem.code()), (409, "CONFLICT"));

    let layer = EnvelopeLayer::new().with_error(|error| {
        let rejected = error.downcast_ref::<CallError<Rejection>>()?;
        Some(buttress_error_envelope::ToProblem::to_problem(rejected))
    });
    let open = || {
        let open = Rejection::new(RejectionKind::CircuitOpen, "c4n4ry");
        CallError::<Rejection>::from(open.with_retry_after(Duration::from_secs(3)))
    };
    let service = service_fn(move |_: Request<()>| ready(Outcome::Err(open().into())));
    let answer = ask(layer, service, request("GET", &[])).await;
    assert_eq!((answer.status(), &*answer.code()), (503, "CIRCUIT_OPEN"));
    assert_eq!(answer.header("retry-after"), Some("3"));
    let source = answer
        .head
        .extensions
        .get::<Problem>()
        .and_then(std::error::Error::source);
    let told = buttress_core::Chain(source.unwrap()).to_string();
    assert!(told.contains("c4n4ry"), "{told}");
}

/// A service that is not well in the way that is asked for.
#[derive(Clone)]
struct Unwell(&'static str);

impl Service<Request<()>> for Unwell {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Outcome> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.0 {
            "not ready" => Poll::Ready(Err("c4n4ry".into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        match self.0 {
            "panic in call" => panic!("c4n4ry"),
            "panic at once" => Box::pin(async { panic!("c4n4ry {}", 7) }),
            "panic later" => Box::pin(async {
                tokio::task::yield_now().await;
                std::panic::panic_any(7_u8)
            }),
            _ => Box::pin(ready(Err("called though it was not ready".into()))),
        }
    }
}

#[tokio::test]
async fn ee6_a_panic_is_the_opaque_500_with_the_id_and_without_its_words() {
    let tally = buttress_testkit::tally::suite("EE6");
    for how in ["panic in call", "panic at once", "panic later", "not ready"] {
        for form in [("accept", "*/*"), PROBLEM_JSON] {
            let asked = request("GET", &[("x-request-id", "abc"), form]);
            let answer = ask(EnvelopeLayer::new(), Unwell(how), asked).await;
            assert_eq!(
                (answer.status(), &*answer.code(), answer.id()),
                (500, "INTERNAL", "abc"),
                "{how}"
            );
            assert!(!format!("{answer:?}").contains("c4n4ry"), "{how}");
            let problem = answer.head.extensions.get::<Problem>().unwrap();
            let source = std::error::Error::source(problem).unwrap().to_string();
            assert!(!source.contains("though"), "{source}");
        }
    }
    tally.faults(8);
}

#[tokio::test]
async fn a_service_that_was_not_ready_is_asked_again_next_time() {
    #[derive(Clone)]
    struct Once(bool);
    impl Service<Request<()>> for Once {
        type Response = Response<Full<Bytes>>;
        type Error = BoxError;
        type Future = std::future::Ready<Outcome>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            let was_ready = std::mem::replace(&mut self.0, true);
            Poll::Ready(if was_ready {
                Ok(())
            } else {
                Err("not yet".into())
            })
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            ready(plain(200, ""))
        }
    }
    let mut service = ServiceBuilder::new()
        .layer(EnvelopeLayer::new())
        .service(Once(false));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let ready = service.ready().await.unwrap();
        statuses.push(
            ready
                .call(request("GET", &[]))
                .await
                .unwrap()
                .status()
                .as_u16(),
        );
    }
    assert_eq!(statuses, [500, 200, 200]);
}

#[tokio::test]
async fn towers_own_refusals_leave_as_problems() {
    let layer = EnvelopeLayer::new().with_error(|error| {
        error
            .is::<tower::timeout::error::Elapsed>()
            .then(|| Problem::from_status(StatusCode::GATEWAY_TIMEOUT))
    });
    let hangs = ServiceBuilder::new()
        .timeout(Duration::from_millis(10))
        .service(service_fn(|_: Request<()>| pending::<Outcome>()));
    let answer = ask(layer, hangs, request("GET", &[])).await;
    assert_eq!(
        (answer.status(), &*answer.code()),
        (504, "UPSTREAM_TIMEOUT")
    );
}
