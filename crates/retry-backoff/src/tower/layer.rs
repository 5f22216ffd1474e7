//! The layer and its service.

use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use buttress_core::Classify;
use tower_layer::Layer;
use tower_service::Service;

use super::{Cloned, Own, Replay, ResponseFuture, Split, Unwrapped, held::Alone};
use crate::{Retry, RetryError};

/// Sends requests to a service again by the policy of a [`Retry`].
///
/// - **State** is the handle's: budget, listeners, name. The layer may be applied anew for each
///   connection, or twice; all services it makes share them.
/// - **Readiness.** The service that was polled ready is the one that is called, and it is polled
///   ready before every attempt. `C` judges the result; the last one stands, so a response that was
///   judged a failure leaves as it is when there is no further attempt.
/// - **A request that may not be sent twice** is sent again only when it was certainly not done; one
///   that cannot be had again is not sent again at all, and fails with
///   [`Stopped::Unrepeatable`](crate::Stopped::Unrepeatable).
/// - **Dropping** the response future drops the attempt or the wait that is under way.
///
/// ```
/// use buttress_core::ByResult;
/// use buttress_retry_backoff::{Retry, RetryPolicy, tower::RetryLayer};
///
/// let retry = Retry::new("search", RetryPolicy::default());
/// let layer = RetryLayer::new(retry, ByResult).idempotent();
/// # let _ = layer;
/// ```
pub struct RetryLayer<C, M = Cloned, W = Own> {
    parts: Parts<C, M, W>,
}

/// What the services that the layer makes share.
struct Parts<C, M, W> {
    retry: Retry,
    alone: Alone,
    classifier: C,
    replay: M,
    errors: PhantomData<fn() -> W>,
}

impl<C> RetryLayer<C> {
    /// For requests that are cloned, results being judged by `classifier`.
    #[must_use]
    pub fn new(retry: Retry, classifier: C) -> Self {
        Self::with_replay(retry, classifier, Cloned { idempotent: false })
    }

    /// Says that every request may be sent twice with one effect.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.parts.replay.idempotent = true;
        self
    }
}

impl<C, M> RetryLayer<C, M> {
    /// With another way to have a request again.
    #[must_use]
    pub fn with_replay(retry: Retry, classifier: C, replay: M) -> Self {
        Self {
            parts: Parts {
                alone: Alone::of(&retry),
                retry,
                classifier,
                replay,
                errors: PhantomData,
            },
        }
    }

    /// The same around a service that fails with a `CallError`, or around a hedge: what a breaker or
    /// a limiter inside rejects is not hammered.
    #[must_use]
    pub fn unwrapped(self) -> RetryLayer<C, M, Unwrapped> {
        RetryLayer {
            parts: Parts {
                retry: self.parts.retry,
                alone: self.parts.alone,
                classifier: self.parts.classifier,
                replay: self.parts.replay,
                errors: PhantomData,
            },
        }
    }
}

impl<C: Clone, M: Clone, W> Clone for Parts<C, M, W> {
    fn clone(&self) -> Self {
        Self {
            retry: self.retry.clone(),
            alone: self.alone,
            classifier: self.classifier.clone(),
            replay: self.replay.clone(),
            errors: PhantomData,
        }
    }
}

impl<C: Clone, M: Clone, W> Clone for RetryLayer<C, M, W> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
        }
    }
}

impl<C, M, W> fmt::Debug for RetryLayer<C, M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer")
            .field("retry", &self.parts.retry)
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone, M: Clone, W> Layer<S> for RetryLayer<C, M, W> {
    type Service = RetryService<S, C, M, W>;

    fn layer(&self, inner: S) -> RetryService<S, C, M, W> {
        RetryService {
            inner,
            parts: self.parts.clone(),
        }
    }
}

/// The service that [`RetryLayer`] makes.
pub struct RetryService<S, C, M = Cloned, W = Own> {
    inner: S,
    parts: Parts<C, M, W>,
}

impl<S: Clone, C: Clone, M: Clone, W> Clone for RetryService<S, C, M, W> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            parts: self.parts.clone(),
        }
    }
}

impl<S, C, M, W> fmt::Debug for RetryService<S, C, M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryService")
            .field("retry", &self.parts.retry)
            .finish_non_exhaustive()
    }
}

impl<S, C, M, W, Req> Service<Req> for RetryService<S, C, M, W>
where
    S: Service<M::Request> + Clone,
    M: Replay<Req> + Clone,
    W: Split<S::Error>,
    C: Classify<S::Response, W::Error> + Clone,
{
    type Response = S::Response;
    type Error = RetryError<W::Error>;
    type Future = ResponseFuture<S, Req, C, M, W>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| RetryError::never_ready(W::split(error)))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        // The one that was polled goes with the call, and a clone stays for the next.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let Parts {
            retry,
            alone,
            classifier,
            replay,
            ..
        } = &self.parts;
        let (classifier, replay) = (classifier.clone(), replay.clone());
        ResponseFuture::begin(ready, retry, alone, classifier, replay, request)
    }
}
