//! A request whose process is lost between the ride and the charge, and whose client never asks
//! again: a completer makes it again, through the same router.
//!
//! `cargo run -p buttress-idempotency --example without_its_client --features axum,phases`

#![expect(clippy::print_stdout, reason = "an example that shows what happens")]

use std::time::Duration;

use axum::{Extension, Router, body::Body, http::Request, http::StatusCode, routing::post};
use buttress_idempotency::{
    Idempotency, Policy, Scope,
    store::MemoryStore,
    tower::{IdempotencyLayer, Idempotent, KeptRequests, Redriven},
};
use buttress_store::LeaseTerms;
use tower::ServiceExt;

/// Whom authentication has found.
#[derive(Clone)]
struct Caller(String);

async fn ride(
    Extension(Caller(name)): Extension<Caller>,
    again: Option<Extension<Redriven>>,
    key: Idempotent,
) -> Result<(StatusCode, String), StatusCode> {
    let lost = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let mut guard = key.take().ok_or(StatusCode::CONFLICT)?;
    if guard.passed::<u32>("ride").map_err(lost)?.is_none() {
        println!("a ride is written for {name}");
        guard.phase("ride", &7).await.map_err(lost)?;
    }
    if again.is_none() {
        return Err(StatusCode::INTERNAL_SERVER_ERROR); // here the process is lost
    }
    let charge = guard.derived_key("charge"); // he knows a second try by it
    println!("{name} is charged, under {}…", &charge[..8]);
    key.give_back(guard);
    Ok((StatusCode::CREATED, "ride 7".to_owned()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let lease = LeaseTerms::new(Duration::from_secs(1))?;
    let policy = Policy::builder().lease(lease).build()?;
    let idempotency = Idempotency::builder(MemoryStore::new()).policy(policy);
    let kept = KeptRequests::new("rides")?.caller(
        |head| Some(head.extensions.get::<Caller>()?.0.clone().into()),
        |name, head| {
            let name = String::from_utf8_lossy(name).into_owned();
            head.extensions.insert(Caller(name));
            true // he still may
        },
    );
    let layer = IdempotencyLayer::for_axum(idempotency.build(), |head| {
        Some(Scope::of([&head.extensions.get::<Caller>()?.0]))
    });
    let layer = layer.keep_requests(kept)?;
    let app = Router::new().route("/rides", post(ride));
    let app = app.layer(layer.clone());
    let ask = || {
        let request = Request::post("/rides").extension(Caller("alice".into()));
        request
            .header("idempotency-key", "7d0c")
            .body(Body::empty())
    };
    println!("at first: {}", app.clone().oneshot(ask()?).await?.status());

    let completer = layer.completer(app.clone())?.idle(Duration::ZERO)?;
    let shutdown = tokio::time::sleep(Duration::from_secs(3));
    let completer = completer.every(Duration::from_millis(200))?;
    completer.run_until(shutdown).await;

    let later = app.oneshot(ask()?).await?;
    println!("much later: {}, {:?}", later.status(), later.headers());
    assert_eq!(later.headers()["idempotency-replayed"], "true");
    Ok(())
}
