//! Reads the body of an error, and no more of it than fits.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
};

use bytes::Buf;
use http::Response;
use http_body::Body;

use super::{MAX_REMOTE_BODY, RemoteProblem};

/// The response, if its status is below 400: its body has not been touched then. Of any other the
/// body is read, up to [`MAX_REMOTE_BODY`].
///
/// There is no time limit here: a service that never ends its answer holds this future until the
/// limit of your client strikes, or yours. Dropping it drops the body, and with it what of the
/// connection cannot be used again; the request may have had its effect.
///
/// # Errors
///
/// What the other service says. Where the body was too long, or broke off, its status and headers:
/// see [`RemoteProblem::is_complete`].
pub async fn check<B: Body>(response: Response<B>) -> Result<Response<B>, RemoteProblem> {
    if response.status().as_u16() < 400 {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let bytes = whole(pin!(body)).await;
    let told = bytes.as_deref().unwrap_or_default();
    let problem = RemoteProblem::from_parts(head.status, &head.headers, told);
    Err(match bytes {
        Some(_) => problem,
        None => problem.incomplete(),
    })
}

/// All of a body, unless it is too long or breaks off.
async fn whole<B: Body>(mut body: Pin<&mut B>) -> Option<Vec<u8>> {
    let longest = u64::try_from(MAX_REMOTE_BODY).unwrap_or(u64::MAX);
    if body.size_hint().lower() > longest {
        return None;
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(mut data) = frame.ok()?.into_data() else {
            continue;
        };
        if data.remaining() > MAX_REMOTE_BODY - bytes.len() {
            return None;
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            let length = chunk.len();
            bytes.extend_from_slice(chunk);
            data.advance(length);
        }
    }
    Some(bytes)
}
