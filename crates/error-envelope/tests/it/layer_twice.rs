//! A request that meets the layer twice.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use buttress_error_envelope::{
    Problem,
    tower::{BoxError, EnvelopeLayer, RequestId},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{ServiceBuilder, service_fn};

use crate::{
    log::heard,
    stack::{Outcome, PROBLEM_JSON, ask, plain, rendered, request},
};

fn twice() -> (EnvelopeLayer, EnvelopeLayer) {
    let inner = EnvelopeLayer::new().with_status(
        StatusCode::GONE,
        Problem::new(410, "INNER", "The inner one."),
    );
    let outer = EnvelopeLayer::new().with_status(
        StatusCode::GONE,
        Problem::new(410, "OUTER", "The outer one."),
    );
    (outer, inner)
}

#[tokio::test]
async fn there_is_one_id() {
    for given in [&[][..], &[("x-request-id", "abc")]] {
        let (outer, inner) = twice();
        let service = service_fn(|request: Request<()>| {
            let id = request.extensions().get::<RequestId>().unwrap().to_string();
            let mut response = Response::new(Full::<Bytes>::default());
            response.headers_mut().insert("x-seen", id.parse().unwrap());
            std::future::ready(Ok::<_, BoxError>(response))
        });
        let inner = ServiceBuilder::new().layer(inner).service(service);
        let answer = ask(outer, inner, request("GET", given)).await;
        assert_eq!(answer.header("x-seen"), Some(answer.id()));
    }
}

#[tokio::test]
async fn an_error_is_rendered_and_logged_once_and_the_inner_layer_says_what_it_is() {
    type Make = fn() -> Outcome;
    let table: [(&str, u16, Make); 4] = [
        ("INNER", 410, || plain(410, "")),
        ("MINE", 503, || {
            rendered(&Problem::new(503, "MINE", "Later."))
        }),
        ("INTERNAL", 500, || Err("broken".into())),
        ("INTERNAL", 500, || panic!("broken")),
    ];
    for (code, status, make) in table {
        let (outer, inner) = twice();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let service = service_fn(move |_: Request<()>| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(make())
        });
        let inner = ServiceBuilder::new().layer(inner).service(service);
        let asked = request("GET", &[PROBLEM_JSON]);
        let (answer, lines) = heard(ask(outer, inner, asked)).await;
        assert_eq!((answer.status(), &*answer.code()), (status, code));
        assert_eq!(answer.header("vary"), Some("accept"));
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        let told = lines
            .iter()
            .filter(|line| line.contains("the request "))
            .count();
        assert_eq!((told, calls.load(Ordering::Relaxed)), (1, 1), "{lines:?}");
        let spans = lines
            .iter()
            .filter(|line| line.matches("request{").count() > 1)
            .count();
        assert_eq!(spans, 0, "{lines:?}");
    }
}
