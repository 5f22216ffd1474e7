//! axum extractors that reject with a problem, and responses that are one.

use std::collections::HashMap;

use axum::{
    Router,
    body::Body,
    extract::DefaultBodyLimit,
    response::IntoResponse,
    routing::{get, post},
};
use buttress_error_envelope::{
    Envelope, Problem,
    axum::{Json, Path, Query},
};
use http::{Request, Response, StatusCode, header::LOCATION};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

#[derive(Deserialize)]
struct SecretOrder {
    quantity: u8,
}

#[derive(Deserialize)]
struct SecretPage {
    limit: Option<u8>,
    #[serde(default)]
    all: bool,
}

fn app() -> Router {
    Router::new()
        .route(
            "/orders",
            post(async |Json(order): Json<SecretOrder>| {
                (
                    StatusCode::CREATED,
                    [(LOCATION, "/orders/7")],
                    Envelope::new(order.quantity),
                )
            })
            .get(async |Query(page): Query<SecretPage>| {
                Envelope::new((page.limit, page.all)).with_meta(json!({"next": null}))
            }),
        )
        .route(
            "/orders/{id}",
            get(async |Path(id): Path<u64>| Envelope::new(id)),
        )
        .route(
            "/orders/{id}/items/{item}",
            get(async |Path(ids): Path<HashMap<String, u8>>| Envelope::new(ids.len())),
        )
        .route("/wrong/{id}", get(async |Path(_): Path<(u8, u8)>| ()))
        .route(
            "/problem",
            get(async || Problem::new(409, "CONFLICT", "No.")),
        )
        .layer(DefaultBodyLimit::max(32))
}

async fn ask(request: Request<Body>) -> (Response<()>, Value) {
    let response = app().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (Response::from_parts(head, ()), body)
}

async fn sent(content_type: &str, body: impl Into<Body>) -> (u16, Value) {
    let request = Request::post("/orders").header("content-type", content_type);
    let (head, body) = ask(request.body(body.into()).unwrap()).await;
    (head.status().as_u16(), body)
}

async fn got(uri: &str) -> (u16, Value) {
    let (head, body) = ask(Request::get(uri).body(Body::empty()).unwrap()).await;
    (head.status().as_u16(), body)
}

#[tokio::test]
async fn json_checks_length_then_type_then_syntax_then_shape() {
    let long = r#"{"quantity": 1, "more": "more and more"}"#;
    for (content_type, body, status, code) in [
        ("text/plain", long, 413, "PAYLOAD_TOO_LARGE"),
        ("application/json", long, 413, "PAYLOAD_TOO_LARGE"),
        (
            "text/plain",
            r#"{"quantity": "#,
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "application/json",
            r#"{"quantity": "#,
            400,
            "MALFORMED_REQUEST",
        ),
        ("application/json", "", 400, "MALFORMED_REQUEST"),
        (
            "application/json",
            r#"{"quantity": "two"}"#,
            422,
            "VALIDATION_FAILED",
        ),
    ] {
        let (got, body) = sent(content_type, body).await;
        assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)));
    }
    let (status, body) = sent("application/vnd.shop+json", r#"{"quantity": 2}"#).await;
    assert_eq!((status, body), (201, json!({"success": true, "data": 2})));
}

#[tokio::test]
async fn a_body_of_undeclared_length_is_read_no_further_than_the_limit() {
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>("0123456789"));
    let (status, _) = sent("application/json", Body::from_stream(endless)).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_body_of_declared_length_over_the_limit_is_not_read_at_all() {
    /// Says that it is long, and must not be asked for more.
    struct Declared;
    impl http_body::Body for Declared {
        type Data = bytes::Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            panic!("it was read");
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(33)
        }
    }
    let (status, _) = sent("application/json", Body::new(Declared)).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_400_and_says_nothing_of_why() {
    let broken = futures_util::stream::iter([Ok("{"), Err(std::io::Error::other("c4n4ry"))]);
    let (status, body) = sent("application/json", Body::from_stream(broken)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("MALFORMED_REQUEST"))
    );
    assert!(!body.to_string().contains("c4n4ry"));
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_400_with_the_parameter() {
    for (query, details) in [
        ("limit=ten", json!({"limit": "must be an integer"})),
        ("limit=", json!({"limit": "must be an integer"})),
        ("limit=-1", json!({"limit": "must be an integer"})),
        ("limit=256", json!({"limit": "is out of range"})),
        ("all=yes", json!({"all": "must be true or false"})),
        (
            "limit=1&limit=2",
            json!({"limit": "is given more than once"}),
        ),
    ] {
        let (status, body) = got(&format!("/orders?{query}")).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!("MALFORMED_REQUEST"))
        );
        assert_eq!(body["error"]["details"], details, "{query}");
        assert!(!body.to_string().contains("u8") && !body.to_string().contains("Secret"));
    }
    let (status, body) = got("/orders?limit=10&other=%ff%zz").await;
    assert_eq!(
        (status, body),
        (
            200,
            json!({"success": true, "data": [10, false], "meta": {"next": null}})
        )
    );
}

#[tokio::test]
async fn a_path_that_cannot_be_read_is_400_and_a_route_that_does_not_fit_the_opaque_500() {
    assert_eq!(got("/orders/7").await.0, 200);
    for uri in [
        "/orders/seven",
        "/orders/-1",
        "/orders/99999999999999999999",
        "/orders/%ff",
    ] {
        let (status, body) = got(uri).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!("MALFORMED_REQUEST")),
            "{uri}"
        );
        assert!(!body.to_string().contains("u64"), "{body}");
    }
    let (status, body) = got("/orders/1/items/x").await;
    assert_eq!(
        (status, &body["error"]["details"]),
        (400, &json!({"item": "must be an integer"}))
    );
    let (status, body) = got("/wrong/1").await;
    assert_eq!((status, &body["error"]["code"]), (500, &json!("INTERNAL")));
}

#[tokio::test]
async fn an_envelope_takes_the_status_and_headers_that_are_put_before_it() {
    let request = Request::post("/orders").header("content-type", "application/json");
    let (head, _) = ask(request.body(r#"{"quantity": 2}"#.into()).unwrap()).await;
    assert_eq!(head.status(), 201);
    assert_eq!(head.headers()["location"], "/orders/7");
    assert_eq!(head.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn without_the_layer_a_problem_leaves_as_json_and_carries_itself() {
    let response = Problem::new(409, "CONFLICT", "No.").into_response();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.extensions().get::<Problem>().is_some());
    assert_eq!(got("/problem").await.0, 409);
}
