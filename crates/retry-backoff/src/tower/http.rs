//! HTTP requests: the method and the key say what may be sent twice, the body is replayed.

use std::fmt;

use bytes::Bytes;
use http::{Request, request::Parts};
use http_body::Body;

use super::{Replay, ReplayBody, RetryLayer, body::Tape};
use crate::{
    Deadline, Retry,
    http::{ByStatus, is_idempotent},
};

/// Replays HTTP requests.
///
/// Head and extensions are cloned. The body is passed on as it comes and remembered on the way, up
/// to a bound; what the attempt before did not read is taken over by the next. A body that is longer
/// than the bound, that failed, or that somebody still holds, cannot be sent again.
///
/// A [`Deadline`] in the request's extensions is kept to, and each attempt whose time is limited
/// finds its own there: so a retry within this one, or any service that looks, knows how long it
/// has.
#[derive(Clone, Copy, Debug)]
pub struct HttpReplay {
    most: usize,
}

impl HttpReplay {
    /// How much of a body is remembered unless told otherwise: 64 KiB.
    pub const DEFAULT_BODY: usize = 64 * 1024;

    /// Remembers so many bytes of a body at most.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most }
    }
}

impl Default for HttpReplay {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BODY)
    }
}

impl RetryLayer<ByStatus, HttpReplay> {
    /// For HTTP: judged by status, `Retry-After` honoured, requests that are not idempotent by
    /// their method or an `Idempotency-Key` sent again only when they were certainly not done,
    /// bodies remembered up to 64 KiB.
    ///
    /// The service inside takes a request with a [`ReplayBody`].
    ///
    /// ```
    /// use buttress_retry_backoff::{Retry, RetryPolicy, tower::RetryLayer};
    ///
    /// let layer = RetryLayer::http(Retry::new("payments", RetryPolicy::default()));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn http(retry: Retry) -> Self {
        let replay = HttpReplay::new(HttpReplay::DEFAULT_BODY);
        Self::with_replay(retry, ByStatus, replay)
    }
}

/// What is kept of a request.
pub struct SavedRequest<B> {
    parts: Parts,
    tape: Option<Tape<B>>,
}

impl<B> fmt::Debug for SavedRequest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedRequest").finish_non_exhaustive()
    }
}

impl<B> Replay<Request<B>> for HttpReplay
where
    B: Body<Data = Bytes> + Unpin,
{
    type Request = Request<ReplayBody<B>>;
    type Saved = SavedRequest<B>;

    fn is_idempotent(&self, request: &Request<B>) -> bool {
        is_idempotent(request.method(), request.headers())
    }

    fn first(&self, request: Request<B>) -> (Self::Request, Option<Self::Saved>) {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            let saved = SavedRequest {
                parts: parts.clone(),
                tape: None,
            };
            return (
                Request::from_parts(parts, ReplayBody::passing(body)),
                Some(saved),
            );
        }
        if body.size_hint().lower() > u64::try_from(self.most).unwrap_or(u64::MAX) {
            return (Request::from_parts(parts, ReplayBody::passing(body)), None);
        }
        let tape = Tape::new(self.most);
        let saved = SavedRequest {
            parts: parts.clone(),
            tape: Some(tape.clone()),
        };
        (
            Request::from_parts(parts, ReplayBody::recording(body, tape)),
            Some(saved),
        )
    }

    fn deadline(&self, request: &Request<B>) -> Option<Deadline> {
        request.extensions().get::<Deadline>().cloned()
    }

    fn limit(&self, request: &mut Self::Request, deadline: impl FnOnce() -> Deadline) {
        request.extensions_mut().insert(deadline());
    }

    fn is_there(&self, saved: &SavedRequest<B>) -> bool {
        saved.tape.as_ref().is_none_or(Tape::is_there)
    }

    fn again(&self, saved: &mut SavedRequest<B>) -> Option<Self::Request> {
        let body = match &saved.tape {
            None => ReplayBody::empty(),
            Some(tape) => tape.play()?,
        };
        Some(Request::from_parts(saved.parts.clone(), body))
    }
}
