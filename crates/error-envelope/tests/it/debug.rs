//! Causes are shown only when the crate was built so and the request asks.

use std::convert::Infallible;

use buttress_error_envelope::{Format, Problem, tower::EnvelopeLayer};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::ACCEPT};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tower::{Layer as _, ServiceExt as _, service_fn};

const CANARY: &str = "c4n4ry";

fn failure() -> Problem {
    Problem::new(503, "CLOSED", "Closed.").with_source(std::io::Error::other(CANARY))
}

async fn answer(layer: EnvelopeLayer, accept: &'static str, asks: bool) -> Value {
    let service = service_fn(|_: Request<()>| async {
        let (parts, body) = failure().render(Format::Json).into_parts();
        Ok::<_, Infallible>(Response::from_parts(parts, Full::<Bytes>::new(body)))
    });
    let mut request = Request::builder().header(ACCEPT, accept);
    if asks {
        request = request.header("x-debug", "1");
    }
    let request = request.body(()).unwrap();
    let response = layer.layer(service).oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

fn asks(headers: &HeaderMap) -> bool {
    headers.contains_key("x-debug")
}

#[tokio::test]
async fn a_request_that_asks_is_shown_the_chain() {
    let layer = || EnvelopeLayer::new().with_debug_when(asks);
    for (accept, place) in [
        ("application/json", "/error/debug"),
        ("application/problem+json", "/debug"),
        ("application/protobuf+json", "/details/1/detail"),
    ] {
        let shown = answer(layer(), accept, true).await;
        assert_eq!(shown.pointer(place).unwrap(), CANARY, "{accept}");
        let hidden = answer(layer(), accept, false).await;
        assert!(!hidden.to_string().contains(CANARY), "{accept}");
    }
}

#[tokio::test]
async fn a_layer_that_was_not_told_shows_nothing() {
    let shown = answer(EnvelopeLayer::new(), "application/json", true).await;
    assert!(!shown.to_string().contains(CANARY));
}

#[tokio::test]
async fn a_question_that_panics_is_answered_with_no() {
    let layer = EnvelopeLayer::new().with_debug_when(|_| panic!("planted"));
    let shown = answer(layer, "application/json", true).await;
    assert_eq!(shown["error"]["code"], "CLOSED");
    assert!(!shown.to_string().contains(CANARY));
}

#[test]
fn a_chain_that_is_long_is_cut() {
    let long = std::io::Error::other(CANARY.repeat(10_000));
    let problem = Problem::internal(long).with_debug();
    for format in [Format::Json, Format::ProblemJson, Format::RpcStatus] {
        let body = problem.render(format).into_body();
        assert!(body.len() <= buttress_error_envelope::MAX_BODY);
        assert!(
            serde_json::from_slice::<Value>(&body)
                .unwrap()
                .to_string()
                .contains(CANARY)
        );
    }
}

#[tokio::test]
async fn a_problem_leaves_in_the_domain_of_its_service() {
    let layer = EnvelopeLayer::new().with_domain("shop.example.com");
    let shown = answer(layer, "application/protobuf+json", false).await;
    assert_eq!(shown["details"][0]["domain"], "shop.example.com");
}
