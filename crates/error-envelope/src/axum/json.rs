//! The JSON body of a request.

use ::axum::{
    RequestExt,
    body::Bytes,
    extract::{FromRequest, Request},
};
use http::StatusCode;
use http_body::Body as _;
use serde::de::DeserializeOwned;

use crate::{Problem, parse_json, require_json};

/// The JSON body of a request; like axum's own, but a rejection is a [`Problem`].
///
/// It checks in this order: 413 for a body over axum's `DefaultBodyLimit` (before a byte of it is
/// read where its length was declared), 415 unless [`media_type_is_json`], then what
/// [`parse_json`] says: 400 for what is no JSON, 422 with the path for the wrong shape.
///
/// Dropping it while it waits loses what it has read of the body.
///
/// [`media_type_is_json`]: crate::media_type_is_json
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "taken apart in a handler's arguments"
)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let body = read(request, state).await?;
        require_json(&headers)?;
        parse_json(&body).map(Self)
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let declared = request.body().size_hint().lower();
    let limited = request.with_limited_body();
    // A limit lower than what is declared lowers the upper bound.
    if limited
        .body()
        .size_hint()
        .upper()
        .is_some_and(|most| most < declared)
    {
        return Err(Problem::from_status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Bytes::from_request(limited, state)
        .await
        .map_err(|rejection| {
            let status = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            Problem::from_status(status).with_source(rejection)
        })
}
