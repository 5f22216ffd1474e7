//! The body of a request, whole and unchanged, up to a bound.

use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;

use super::Refusal;

/// Reads a body to its end: not one byte more than `longest` is kept, and nothing is read of one
/// that says itself that it is longer.
pub(super) async fn capture<B: Body>(body: B, longest: usize) -> Result<Bytes, Refusal> {
    let too_long = Err(Refusal::TooLong { longest });
    let told = body.size_hint();
    if told.lower() > u64::try_from(longest).unwrap_or(u64::MAX) {
        return too_long;
    }
    let mut body = pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| Refusal::Cut)?;
        // Trailers are not signed, and so are not for the handler.
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        if data.remaining() > longest.saturating_sub(whole.len()) {
            return too_long;
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            whole.extend_from_slice(chunk);
            let read = chunk.len();
            data.advance(read);
        }
    }
    Ok(whole.freeze())
}
