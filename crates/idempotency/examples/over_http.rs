//! The layer on an axum router: sent twice, placed once; refused, and the key is free.
//!
//! `cargo run -p buttress-idempotency --example over_http --features axum`

#![expect(clippy::print_stdout, reason = "an example that shows what happens")]

use std::sync::atomic::{AtomicU32, Ordering};

use axum::{Router, body::Body, http::Request, http::StatusCode, routing::post};
use buttress_idempotency::{
    Idempotency, Scope,
    store::MemoryStore,
    tower::{IdempotencyLayer, Idempotent},
};
use tower::ServiceExt;

static PLACED: AtomicU32 = AtomicU32::new(0);

async fn place(key: Idempotent, order: String) -> Result<(StatusCode, String), StatusCode> {
    if order.is_empty() {
        return Err(StatusCode::UNPROCESSABLE_ENTITY); // nothing was done: the key stays free
    }
    // To be sent along when the payment service is called: the same in every try.
    let charge = key.key().derive("charge");
    let number = PLACED.fetch_add(1, Ordering::SeqCst) + 1;
    let answer = format!("order {number}: {order}, charged under {}…", &charge[..8]);
    Ok((StatusCode::CREATED, answer))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let idempotency = Idempotency::new(MemoryStore::new());
    let layer = IdempotencyLayer::for_axum(idempotency, |head| {
        let caller = head.headers.get("x-api-key")?;
        Some(Scope::of([caller]))
    });
    let app: Router = Router::new().route("/orders", post(place)).layer(layer);

    for (key, order) in [
        ("\"7d0c\"", "two pizzas"),
        ("\"7d0c\"", "two pizzas"), // the answer was lost on its way, say
        ("7d0c", "three pizzas"),   // a mistake
        ("8e1d", ""),
        ("8e1d", "one pizza"), // corrected
    ] {
        let request = Request::post("/orders")
            .header("x-api-key", "alice")
            .header("idempotency-key", key)
            .body(Body::from(order))?;
        let response = app.clone().oneshot(request).await?;
        let status = response.status();
        let replayed = response.headers().contains_key("idempotency-replayed");
        let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await?;
        let body = String::from_utf8_lossy(&body);
        println!("{key}, {order:?}: {status}, replayed: {replayed}\n  {body}");
    }
    assert_eq!(PLACED.load(Ordering::SeqCst), 2);
    Ok(())
}
