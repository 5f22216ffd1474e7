//! The shipment service.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{delete, post},
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::key_of;
use crate::repository::{Database, KeyState};

/// A shipment to be booked, under the key in the header.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShipmentRequest {
    pub(crate) order_id: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ShipmentAnswer {
    Booked,
    /// The key was cancelled before.
    Cancelled,
}

pub(super) fn router(database: Database) -> Router {
    Router::new()
        .route("/shipments", post(book))
        .route("/shipments/{key}", delete(cancel))
        .with_state(database)
}

async fn book(
    State(database): State<Database>,
    headers: HeaderMap,
    Json(request): Json<ShipmentRequest>,
) -> Result<Json<ShipmentAnswer>, StatusCode> {
    let key = key_of(&headers)?;
    match database.ship(&key, &request.order_id).await {
        Ok(KeyState::Done) => Ok(Json(ShipmentAnswer::Booked)),
        Ok(KeyState::Cancelled) => Ok(Json(ShipmentAnswer::Cancelled)),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn cancel(State(database): State<Database>, Path(key): Path<String>) -> StatusCode {
    match database.cancel_shipment(&key).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
