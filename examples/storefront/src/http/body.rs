//! Reading a request's body, within bounds.

use axum::body::Body;
use buttress_error_envelope::{FieldErrors, Problem, parse_json, require_json};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use garde::Validate;
use http::{HeaderMap, header};
use serde::{Deserialize, de::DeserializeOwned};

use super::refusal::Refusal;

/// The largest body that is read.
const LIMIT: usize = 64 * 1024;

/// Nothing. Flattened into a struct it has that read from a JSON object alone: derived, it would also be read from an
/// array, by position.
#[derive(Debug, Deserialize)]
pub(super) struct ByName {}

/// A body of JSON that keeps its rules.
pub(super) async fn read_json<T>(headers: &HeaderMap, body: Body) -> Result<T, Problem>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    let bytes = read(headers, body).await?;
    require_json(headers)?;
    let json: T = parse_json(&bytes)?;
    json.validate().map_err(FieldErrors::from)?;
    Ok(json)
}

/// The whole body, if it is at most 64 KiB.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    let announced = announced
        .and_then(|length| length.parse::<u64>().ok())
        .unwrap_or(0);
    let mut stream = body.into_data_stream();
    let mut read = BytesMut::new();
    if announced > LIMIT as u64 {
        return Err(Refusal::TooLarge.into());
    }
    loop {
        match stream.next().await {
            Some(Ok(part)) if read.len() + part.len() <= LIMIT => read.extend_from_slice(&part),
            Some(Ok(_)) => return Err(Refusal::TooLarge.into()),
            Some(Err(_)) => return Err(Refusal::BodyLost.into()),
            None => return Ok(read.freeze()),
        }
    }
}
