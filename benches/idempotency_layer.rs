//! What the idempotency layer costs a request, with the store in memory: a key that is new, and a
//! replay; beside axum-idempotent and the router without a layer, which is the limit.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{Router, body::Body, routing::post};
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use buttress_idempotency::{Idempotency, Scope, store::MemoryStore, tower::IdempotencyLayer};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Request, header::COOKIE};
use http_body_util::BodyExt;
use ruts::{
    CookieOptions, Session, SessionLayer,
    store::{Ttl, moka::MokaStore},
};
use tokio::runtime::Runtime;
use tower::ServiceExt;
use tower_cookies::CookieManagerLayer;

const BODY: &str =
    r#"{"customer":"alice","items":[{"product_id":"p1","quantity":2}],"payment_method":"pm_ok"}"#;

fn request(key: u64, cookie: Option<&HeaderValue>) -> Request<Body> {
    let request = Request::post("/orders")
        .header(
            "idempotency-key",
            format!("8e03978e-40d5-43e8-bc93-{key:012x}"),
        )
        .header("content-type", "application/json");
    let mut request = request.body(Body::from(BODY)).expect("it is one");
    if let Some(cookie) = cookie {
        request.headers_mut().insert(COOKIE, cookie.clone());
    }
    request
}

/// Reads the body and answers with as much.
fn orders() -> Router {
    Router::new().route("/orders", post(|body: String| async move { body }))
}

fn ours() -> Router {
    let idempotency = Idempotency::new(MemoryStore::new());
    let scope = |_: &http::request::Parts| Some(Scope::of(["alice"]));
    orders()
        .layer(IdempotencyLayer::for_axum(idempotency, scope))
        .with_state(())
}

/// It keeps answers in a session, which must be there before.
fn peer(runtime: &Runtime) -> (Router, HeaderValue) {
    let options =
        IdempotentOptions::default().use_idempotency_key_header(Some("Idempotency-Key"), true);
    let cookies = CookieOptions::build()
        .name("session")
        .max_age(3600)
        .path("/");
    let login = post(|session: Session<MokaStore>| async move {
        let ttl = Ttl::new(3600).expect("an hour");
        session
            .set("user", &"alice", ttl, None)
            .await
            .expect("it is in memory");
    });
    let app = orders()
        .layer(IdempotentLayer::<MokaStore>::new(options))
        .route("/login", login)
        .layer(
            SessionLayer::new(Arc::new(MokaStore::builder().build())).with_cookie_options(cookies),
        )
        .layer(CookieManagerLayer::new())
        .with_state(());
    let login = Request::post("/login")
        .body(Body::empty())
        .expect("it is one");
    let answer = runtime
        .block_on(app.clone().oneshot(login))
        .expect("it never fails");
    let cookie = answer.headers()["set-cookie"].clone();
    (app, cookie)
}

async fn ask(app: &Router, request: Request<Body>) -> bool {
    let Ok(response) = app.clone().oneshot(request).await;
    let replayed = response.headers().contains_key("idempotency-replayed");
    assert!(response.status().is_success());
    black_box(
        response
            .into_body()
            .collect()
            .await
            .expect("it is in memory"),
    );
    replayed
}

fn layer(c: &mut Criterion) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let (peer, cookie) = peer(&runtime);
    let apps = [
        ("no layer", orders().with_state(()), None),
        ("peer axum-idempotent", peer, Some(cookie)),
        ("ours", ours(), None),
    ];
    let keys = AtomicU64::new(0);
    for (kind, replays) in [("new key", false), ("replay", true)] {
        let mut group = c.benchmark_group(kind);
        for (name, app, cookie) in &apps {
            let repeated = keys.fetch_add(1, Relaxed);
            runtime.block_on(ask(app, request(repeated, cookie.as_ref())));
            let one = async || {
                let key = if replays {
                    repeated
                } else {
                    keys.fetch_add(1, Relaxed)
                };
                let replayed = ask(app, request(key, cookie.as_ref())).await;
                assert_eq!(
                    replayed,
                    replays && *name != "no layer",
                    "it does what is measured"
                );
            };
            group.bench_function(*name, |b| {
                b.iter_custom(|rounds| {
                    runtime.block_on(async {
                        let clock = buttress_core::Clock::quanta();
                        let begin = clock.now();
                        for _ in 0..rounds {
                            one().await;
                        }
                        clock.now().saturating_since(begin)
                    })
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, layer);
criterion_main!(benches);
