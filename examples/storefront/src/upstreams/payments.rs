//! The payment service.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{delete, post},
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::key_of;
use crate::repository::{Database, KeyState};

/// A charge to be made, under the key in the header.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChargeRequest {
    pub(crate) order_id: String,
    pub(crate) amount: i64,
    pub(crate) payment_method: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChargeAnswer {
    Charged,
    Declined,
    /// The key was cancelled before.
    Cancelled,
}

pub(super) fn router(database: Database) -> Router {
    Router::new()
        .route("/charges", post(charge))
        .route("/charges/{key}", delete(cancel))
        .with_state(database)
}

async fn charge(
    State(database): State<Database>,
    headers: HeaderMap,
    Json(request): Json<ChargeRequest>,
) -> Result<Json<ChargeAnswer>, StatusCode> {
    let key = key_of(&headers)?;
    if request.payment_method != "pm_ok" {
        return Ok(Json(ChargeAnswer::Declined));
    }
    match database
        .charge(&key, &request.order_id, request.amount)
        .await
    {
        Ok(KeyState::Done) => Ok(Json(ChargeAnswer::Charged)),
        Ok(KeyState::Cancelled) => Ok(Json(ChargeAnswer::Cancelled)),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn cancel(State(database): State<Database>, Path(key): Path<String>) -> StatusCode {
    match database.cancel_charge(&key).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
