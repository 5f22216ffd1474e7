//! A subscriber of the shop's events: it believes what is signed, and applies each event once.

use std::sync::Arc;

use axum::{Extension, Json, Router, extract::State, routing::post};
use buttress_outbox::{
    tower::{Webhook, WebhookLayer},
    webhook::{Secret, SecretsError, Verifier},
};
use http::StatusCode;
use serde::Deserialize;

use crate::{event::ToldEvent, repository::Database};

/// Where it takes webhooks.
pub(crate) const PATH: &str = "/events";

/// An event (`CloudEvents` 1.0), as far as it is kept.
#[derive(Debug, Deserialize)]
struct EventBody {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: String,
    time: jiff::Timestamp,
}

pub(super) fn router(database: &Database, secret: Secret) -> Result<Router, SecretsError> {
    let believed = WebhookLayer::new(Verifier::new([secret])?);
    Ok(Router::new()
        .route(PATH, post(apply))
        .layer(believed)
        .with_state(Arc::clone(database)))
}

async fn apply(
    State(database): State<Database>,
    Extension(webhook): Extension<Webhook>,
    Json(body): Json<EventBody>,
) -> StatusCode {
    // The sender's own rule: the id of the webhook is the event's.
    if body.id != webhook.id() {
        return StatusCode::BAD_REQUEST;
    }
    let event = ToldEvent {
        id: body.id,
        event_type: body.event_type,
        subject: body.subject,
        time: body.time,
    };
    match database.apply(&event).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
