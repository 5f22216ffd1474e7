//! The shop behind HTTP: routes, and what each reads from a request.

mod body;
mod client;
mod cursor;
mod errors;
mod events;
mod faults;
mod figures;
mod health;
mod ledger;
mod leftover;
mod openapi;
mod orders;
mod products;
mod quotes;
mod rate;
mod refusal;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use buttress_error_envelope::{Problem, tower::EnvelopeLayer};
use http::StatusCode;
use tower_http::timeout::TimeoutLayer;
use tracing::Instrument as _;

pub(crate) use self::health::Readiness;
use crate::{
    figures::Figures,
    nats::Nats,
    redis::Redis,
    repository::Database,
    service::{Catalogue, OrderRate, Ordering, Quoting},
    telemetry,
    upstreams::FaultSwitches,
};

/// Longer than any answer may take on its own account; what takes longer hangs.
const LONGEST_ANSWER: Duration = Duration::from_secs(11);

/// Ids are short words. What is not one names nothing, and is not worth a query.
const LONGEST_ID: usize = 64;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) catalogue: Catalogue,
    pub(crate) ordering: Ordering,
    pub(crate) rate: OrderRate,
    pub(crate) quoting: Quoting,
    pub(crate) database: Database,
    /// There only when instances share one.
    pub(crate) redis: Option<Redis>,
    /// There only when events go through a stream.
    pub(crate) nats: Option<Nats>,
    pub(crate) figures: Figures,
    pub(crate) readiness: Readiness,
    /// There only when faults may be set from outside.
    pub(crate) faults: Option<Arc<FaultSwitches>>,
}

/// Every route, inside the one layer through which each answer leaves.
pub(crate) fn app(shop: Shop) -> Router {
    let mut routes = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(figures::show))
        .route("/products", get(products::list))
        .route(
            "/products/{id}",
            get(products::show).patch(products::change),
        )
        .route("/orders", post(orders::place).get(orders::list))
        .route("/orders/{id}", get(orders::show))
        .route("/shipping-quotes", get(quotes::quote))
        .route("/events", get(events::list))
        .route("/ledger", get(ledger::list))
        .route("/errors", get(errors::page))
        .route("/openapi.json", get(openapi::document));
    if shop.faults.is_some() {
        routes = routes.route("/faults", post(faults::set));
    }
    routes
        .with_state(shop)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            LONGEST_ANSWER,
        ))
        // Last, so outermost: the routes' fallbacks are inside of it too.
        .layer(
            EnvelopeLayer::new()
                .with_domain(errors::DOMAIN)
                .with_status(StatusCode::SERVICE_UNAVAILABLE, too_long()),
        )
        .layer(middleware::from_fn(leftover::is_read))
        .layer(middleware::from_fn(traced))
}

/// Each request is a span, of its caller's trace if he has one.
async fn traced(request: Request, next: Next) -> Response {
    let name = telemetry::request_name(request.method(), request.uri().path());
    let span = tracing::info_span!("served", otel.name = name, otel.kind = "server");
    telemetry::follow_headers(&span, request.headers());
    next.run(request).instrument(span).await
}

/// What stands for an answer that took too long: worth another try, as the contract says of it.
fn too_long() -> Problem {
    Problem::from_status(StatusCode::SERVICE_UNAVAILABLE).with_retry_after(Duration::from_secs(1))
}

fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
