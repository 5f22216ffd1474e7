//! Reading a request's body, within bounds.

use std::time::Duration;

use axum::body::Body;
use buttress_error_envelope::{FieldErrors, Problem, parse_json, require_json};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use garde::Validate;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::refusal::Refusal;

/// The largest body that is read.
const LIMIT: usize = 64 * 1024;

/// How much of a larger one is thrown away before it is refused. A client that is still sending
/// when the connection closes sees a reset instead of the answer.
const DRAIN: usize = 8 * 1024 * 1024;
const DRAIN_FOR: Duration = Duration::from_secs(2);

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
    let mut too_large = announced > LIMIT as u64;
    while !too_large {
        match stream.next().await {
            Some(Ok(part)) if read.len() + part.len() <= LIMIT => read.extend_from_slice(&part),
            Some(Ok(_)) => too_large = true,
            Some(Err(_)) => return Err(Refusal::BodyLost.into()),
            None => return Ok(read.freeze()),
        }
    }
    // A client that asks before it sends has not sent anything, and will not.
    if !headers.contains_key(header::EXPECT) {
        let drain = async {
            let mut drained = 0;
            while let Some(Ok(part)) = stream.next().await {
                drained += part.len();
                if drained > DRAIN {
                    break;
                }
            }
        };
        // Answered either way.
        let _ = tokio::time::timeout(DRAIN_FOR, drain).await;
    }
    Err(Refusal::TooLarge.into())
}
