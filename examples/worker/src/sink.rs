//! What is on the other side, small: takes webhooks that it can believe, charges, and shipments, each
//! once for its key, and says what it took.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Extension, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use buttress_outbox::{
    tower::{Webhook, WebhookLayer},
    webhook::{Secret, Verifier},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What was done, by the key it came under. In memory: this is no example of a receiver.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<HashSet<String>>>);

impl Taken {
    fn take(&self, what: &str, key: &str) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = taken.insert(format!("{what} {key}"));
        tracing::info!(what, is_new, "taken");
    }

    fn count(&self, what: &str) -> usize {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().filter(|it| it.starts_with(what)).count()
    }
}

pub(crate) async fn serve(
    listen: SocketAddr,
    secret: Secret,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let taken = Taken::default();
    let webhooks = post(
        async |State(taken): State<Taken>, Extension(webhook): Extension<Webhook>| {
            taken.take("webhook", webhook.id());
            StatusCode::NO_CONTENT
        },
    )
    .layer(WebhookLayer::new(Verifier::new([secret])?));
    let router = Router::new()
        .route("/webhooks", webhooks)
        .route("/charges", post(charge).delete(cancel))
        .route("/shipments", post(ship))
        .route("/taken", get(show))
        .with_state(taken);
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let stopped = async move { stop.cancelled().await };
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
        .context("serving")
}

async fn charge(State(taken): State<Taken>, headers: HeaderMap) -> StatusCode {
    once(&taken, "charge", &headers)
}

async fn cancel(State(taken): State<Taken>, headers: HeaderMap) -> StatusCode {
    once(&taken, "cancel", &headers)
}

async fn ship(State(taken): State<Taken>, headers: HeaderMap) -> StatusCode {
    once(&taken, "ship", &headers)
}

fn once(taken: &Taken, what: &str, headers: &HeaderMap) -> StatusCode {
    let key = headers
        .get("idempotency-key")
        .and_then(|it| it.to_str().ok());
    let Some(key) = key else {
        return StatusCode::BAD_REQUEST;
    };
    taken.take(what, key);
    StatusCode::NO_CONTENT
}

async fn show(State(taken): State<Taken>) -> String {
    let counts = ["webhook", "charge", "cancel", "ship"].map(|it| (it, taken.count(it)));
    serde_json::Map::from_iter(counts.map(|(it, count)| (it.to_owned(), count.into())))
        .into_iter()
        .collect::<serde_json::Value>()
        .to_string()
}
