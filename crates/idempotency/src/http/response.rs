//! A response as it is kept under a key, and as it is sent again.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::{ReplayedHeaders, UnreadableRecord, codec};

/// Marks a replay. It is absent from the first answer.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A response as it is kept under a key: status, the headers that a replay has again, and the
/// body's exact bytes, or that it was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

impl StoredResponse {
    /// What is to be kept of this response.
    #[must_use]
    pub fn of(response: &Response<Bytes>, headers: &ReplayedHeaders) -> Self {
        let body = response.body().clone();
        Self::new(
            response.status(),
            headers.of(response.headers()),
            Some(body),
        )
    }

    /// Without a body, the request is remembered as done and its answer as not kept (too large, or
    /// streamed): a replay says so.
    pub(crate) const fn new(status: StatusCode, headers: HeaderMap, body: Option<Bytes>) -> Self {
        Self {
            status,
            headers,
            body,
        }
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Its headers, those that are replayed.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Its body; `None` when the request was done and its answer was not kept.
    #[must_use]
    pub const fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// The bytes that are stored: versioned, each part with its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// [`UnreadableRecord`], when that is not what it wrote. The request must not be run then: the
    /// record says that it was.
    pub fn decode(record: &[u8]) -> Result<Self, UnreadableRecord> {
        codec::decode(record)
    }

    /// The response as it was, as the first one gets it; `None` when it was not kept.
    #[must_use]
    pub fn into_answer(self) -> Option<Response<Bytes>> {
        let mut answer = Response::new(self.body?);
        *answer.status_mut() = self.status;
        *answer.headers_mut() = self.headers;
        Some(answer)
    }

    /// The response that is sent again, marked with `Idempotency-Replayed: true`; `None` when the
    /// answer was not kept.
    #[must_use]
    pub fn into_replay(self) -> Option<Response<Bytes>> {
        let mut replay = self.into_answer()?;
        let yes = HeaderValue::from_static("true");
        replay.headers_mut().insert(IDEMPOTENCY_REPLAYED, yes);
        Some(replay)
    }
}
