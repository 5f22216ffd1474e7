//! Reading bodies, within bounds.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use super::ResponseBody;
use crate::http::HttpRefusal;

/// The whole body, if it has at most `most` bytes. What is announced as longer is not read at all.
pub(super) async fn whole<B: Body<Data = Bytes>>(
    body: B,
    most: usize,
) -> Result<Bytes, HttpRefusal> {
    let bound = u64::try_from(most).unwrap_or(u64::MAX);
    if body.size_hint().lower() > bound {
        return Err(HttpRefusal::BodyTooLarge);
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers of a request are not passed on: they came after the body that was read whole.
        let Ok(chunk) = frame.map_err(|_| HttpRefusal::BodyLost)?.into_data() else {
            continue;
        };
        if first.len() + all.len() + chunk.len() > most {
            return Err(HttpRefusal::BodyTooLarge);
        }
        // Most bodies are one chunk, which is passed on as it is.
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// What came of reading a response's body.
pub(super) enum Captured<B: Body> {
    /// All of it.
    Whole(Bytes),
    /// It is too long, streamed, has trailers or failed: it passes, with what was read in front.
    Passing(ResponseBody<B>),
}

/// Reads a response's body if it says its length and that is at most `most`; with `hold`, also one
/// that does not say it.
///
/// Without `hold` a body of unknown length is not touched: its head must not wait for its end.
pub(super) async fn response<B>(mut body: B, most: usize, hold: bool) -> Captured<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    let hint = body.size_hint();
    let bound = u64::try_from(most).unwrap_or(u64::MAX);
    let fits = match hint.exact() {
        Some(length) => length <= bound,
        None => hold && hint.lower() <= bound,
    };
    if !fits {
        return Captured::Passing(ResponseBody::passing(body));
    }
    let mut read = VecDeque::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let chunk = frame
            .as_ref()
            .ok()
            .and_then(Frame::data_ref)
            .map(Bytes::len);
        read.push_back(frame);
        length += chunk.unwrap_or(0);
        if chunk.is_none() || length > most {
            return Captured::Passing(ResponseBody::resumed(read, body));
        }
    }
    let mut chunks = read
        .into_iter()
        .flatten()
        .filter_map(|frame| frame.into_data().ok());
    let mut first = chunks.next().unwrap_or_default();
    if first.len() < length {
        let mut all = BytesMut::with_capacity(length);
        all.extend_from_slice(&first);
        chunks.for_each(|chunk| all.extend_from_slice(&chunk));
        first = all.freeze();
    }
    Captured::Whole(first)
}
