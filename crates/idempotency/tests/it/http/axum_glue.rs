//! axum: routes by their template, and the extractor.

use axum::{Router, extract::Path, routing::post};
use buttress_idempotency::{
    Scope,
    tower::{IdempotencyLayer, Idempotent},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;

use super::stand::{Answer, Stand, whole};

fn asked(path: &str, key: Option<&str>) -> Request<axum::body::Body> {
    let mut request = Request::post(path);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.body(axum::body::Body::empty()).unwrap()
}

async fn pay(Path(order): Path<u32>, key: Option<Idempotent>) -> String {
    format!(
        "{order} {}",
        key.is_some_and(|key| key.key().derive("charge").len() == 64)
    )
}

async fn needs_one(key: Idempotent) -> String {
    key.resumed().to_string()
}

async fn ask(app: &Router, request: Request<axum::body::Body>) -> Answer {
    let response: Response<axum::body::Body> = app.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body: Bytes = body.collect().await.unwrap().to_bytes();
    whole(Response::from_parts(head, Full::from(body))).await
}

#[tokio::test]
async fn a_route_is_its_template_and_the_handler_is_handed_its_key() {
    let stand = Stand::new();
    let scope = |_: &http::request::Parts| Some(Scope::of(["anyone"]));
    let layer = IdempotencyLayer::for_axum(stand.idempotency.clone(), scope).optional_key();
    let app = Router::new()
        .route("/orders/{id}/pay", post(pay))
        .route("/needs", post(needs_one))
        .layer(layer);
    let first = ask(&app, asked("/orders/1/pay", Some("k"))).await;
    assert_eq!((first.status, first.text()), (200, "1 true"));
    assert!(
        ask(&app, asked("/orders/1/pay", Some("k")))
            .await
            .is_replay()
    );
    // Another order with this key is a mistake, and not another key.
    assert_eq!(
        ask(&app, asked("/orders/2/pay", Some("k"))).await.status,
        422
    );
    assert_eq!(
        ask(&app, asked("/orders/2/pay", None)).await.text(),
        "2 false"
    );
    // The same key on another route is another.
    assert_eq!(ask(&app, asked("/needs", Some("k"))).await.text(), "false");
    assert_eq!(ask(&app, asked("/needs", None)).await.status, 500);
}
