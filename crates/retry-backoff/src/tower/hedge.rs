//! The layer that begins a second attempt beside a slow one.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::Classify;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Cloned, Own, Replay, Split, Unwrapped};
use crate::{
    Attempt, Failure, RetryError,
    call::{Fallible, Operation, sealed::Sealed},
    hedge::{Hedge, HedgeCall, Hedging},
};

/// Sends a request again beside the attempt that is under way, as a [`Hedge`] says: the first
/// success is the response, the others are dropped.
///
/// - **Only what may be sent twice** has a hedge: by [`HedgeLayer::idempotent`], or what
///   [`HedgeLayer::http`] finds idempotent. All else is sent once, and its failure comes out.
/// - **A body** that is still being sent, or is too long to be remembered, has no hedge either.
/// - **Readiness.** The service that was polled ready makes the first attempt; a hedge is a clone of
///   it, polled ready on its own.
/// - **Time.** It has no limit of its own: put a timeout, or a retry with one, around it.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::ByResult;
/// use buttress_retry_backoff::{hedge::{Hedge, HedgeDelay}, tower::HedgeLayer};
///
/// # fn main() -> Result<(), buttress_retry_backoff::PolicyError> {
/// let hedge = Hedge::new("search", HedgeDelay::After(Duration::from_millis(50)), 1)?;
/// let layer = HedgeLayer::new(hedge, ByResult).idempotent();
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
pub struct HedgeLayer<C, M = Cloned, W = Own> {
    parts: Parts<C, M, W>,
}

struct Parts<C, M, W> {
    hedge: Hedge,
    classifier: C,
    replay: M,
    errors: PhantomData<fn() -> W>,
}

impl<C> HedgeLayer<C> {
    /// For requests that are cloned, results being judged by `classifier`.
    #[must_use]
    pub const fn new(hedge: Hedge, classifier: C) -> Self {
        Self::with_replay(hedge, classifier, Cloned { idempotent: false })
    }

    /// Says that every request may be sent twice with one effect.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.parts.replay.idempotent = true;
        self
    }
}

#[cfg(feature = "http")]
impl HedgeLayer<crate::http::ByStatus, super::HttpReplay> {
    /// For HTTP: judged by status; hedged are requests that are idempotent by their method or an
    /// `Idempotency-Key`, once their body is known.
    #[must_use]
    pub fn http(hedge: Hedge) -> Self {
        Self::with_replay(
            hedge,
            crate::http::ByStatus,
            super::HttpReplay::new(super::HttpReplay::DEFAULT_BODY),
        )
    }
}

impl<C, M> HedgeLayer<C, M> {
    /// With another way to have a request again.
    #[must_use]
    pub const fn with_replay(hedge: Hedge, classifier: C, replay: M) -> Self {
        Self {
            parts: Parts {
                hedge,
                classifier,
                replay,
                errors: PhantomData,
            },
        }
    }

    /// The same around a service that fails with a `CallError`: what a breaker or a limiter inside
    /// rejects leads to no hedge.
    #[must_use]
    pub fn unwrapped(self) -> HedgeLayer<C, M, Unwrapped> {
        HedgeLayer {
            parts: Parts {
                hedge: self.parts.hedge,
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
            hedge: self.hedge.clone(),
            classifier: self.classifier.clone(),
            replay: self.replay.clone(),
            errors: PhantomData,
        }
    }
}

impl<C: Clone, M: Clone, W> Clone for HedgeLayer<C, M, W> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
        }
    }
}

impl<C, M, W> fmt::Debug for HedgeLayer<C, M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeLayer")
            .field("hedge", &self.parts.hedge)
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone, M: Clone, W> Layer<S> for HedgeLayer<C, M, W> {
    type Service = HedgeService<S, C, M, W>;

    fn layer(&self, inner: S) -> HedgeService<S, C, M, W> {
        HedgeService {
            inner,
            parts: self.parts.clone(),
        }
    }
}

/// The service that [`HedgeLayer`] makes.
pub struct HedgeService<S, C, M = Cloned, W = Own> {
    inner: S,
    parts: Parts<C, M, W>,
}

impl<S: Clone, C: Clone, M: Clone, W> Clone for HedgeService<S, C, M, W> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            parts: self.parts.clone(),
        }
    }
}

impl<S, C, M, W> fmt::Debug for HedgeService<S, C, M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeService")
            .field("hedge", &self.parts.hedge)
            .finish_non_exhaustive()
    }
}

impl<S, C, M, W, Req> Service<Req> for HedgeService<S, C, M, W>
where
    S: Service<M::Request> + Clone,
    M: Replay<Req> + Clone,
    W: Split<S::Error>,
    C: Classify<S::Response, W::Error> + Clone,
{
    type Response = S::Response;
    type Error = RetryError<W::Error>;
    type Future = Hedging<Requests<S, Req, M, W>, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| RetryError::never_ready(W::split(error)))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // The one that was polled goes with the call, and a clone stays for the next.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let Parts {
            hedge,
            classifier,
            replay,
            ..
        } = &self.parts;
        let requests = Requests::new(ready, replay.clone(), request);
        HedgeCall::new(hedge.clone(), requests)
            .judged_by(classifier.clone())
            .into_future()
    }
}

/// A request, and what it is sent to, as often as it takes.
pub struct Requests<S, Req, M: Replay<Req>, W> {
    service: S,
    replay: M,
    first: Option<M::Request>,
    saved: Option<M::Saved>,
    errors: PhantomData<fn() -> W>,
}

impl<S, Req, M: Replay<Req>, W> Requests<S, Req, M, W> {
    fn new(service: S, replay: M, request: Req) -> Self {
        let repeatable = replay.is_idempotent(&request);
        let (first, saved) = replay.first(request);
        Self {
            service,
            replay,
            first: Some(first),
            saved: saved.filter(|_| repeatable),
            errors: PhantomData,
        }
    }
}

impl<S, Req, M: Replay<Req>, W> fmt::Debug for Requests<S, Req, M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl<S, Req, M: Replay<Req>, W> Sealed for Requests<S, Req, M, W> {}

impl<S, Req, M, W> Fallible for Requests<S, Req, M, W>
where
    S: Service<M::Request>,
    M: Replay<Req>,
    W: Split<S::Error>,
{
    type Value = S::Response;
    type Error = W::Error;
}

impl<S, Req, M, W> Operation for Requests<S, Req, M, W>
where
    S: Service<M::Request> + Clone,
    M: Replay<Req>,
    W: Split<S::Error>,
{
    type Future = Sent<S, M::Request>;

    fn is_there(&self) -> bool {
        self.saved
            .as_ref()
            .is_some_and(|saved| self.replay.is_there(saved))
    }

    fn begin(&mut self, _: Attempt<'_, W::Error>) -> Self::Future {
        if let Some(first) = self.first.take() {
            let clone = self.service.clone();
            let mut ready = std::mem::replace(&mut self.service, clone);
            return Sent::Called {
                response: ready.call(first),
            };
        }
        let saved = self.saved.as_mut();
        Sent::Ready {
            service: self.service.clone(),
            request: saved.and_then(|saved| self.replay.again(saved)),
        }
    }

    fn split(output: Result<S::Response, S::Error>) -> Result<S::Response, Failure<W::Error>> {
        output.map_err(W::split)
    }
}

pin_project! {
    /// One of the attempts: until its service is ready, and then until its response is there.
    #[project = SentProjection]
    #[expect(clippy::exhaustive_enums, reason = "it is a future, and its states are its own")]
    pub enum Sent<S, R>
    where
        S: Service<R>,
    {
        #[doc(hidden)]
        Ready { service: S, request: Option<R> },
        #[doc(hidden)]
        Called { #[pin] response: S::Future },
    }
}

impl<S: Service<R>, R> Future for Sent<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let response = match self.as_mut().project() {
                SentProjection::Called { response } => return response.poll(cx),
                SentProjection::Ready { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    // It was looked at before the attempt was begun; should it be gone
                    // nevertheless, the other attempts decide.
                    let Some(request) = request.take() else {
                        return Poll::Pending;
                    };
                    service.call(request)
                }
            };
            self.set(Self::Called { response });
        }
    }
}

impl<S: Service<R>, R> fmt::Debug for Sent<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready { .. } => "Sent(getting ready)",
            Self::Called { .. } => "Sent(called)",
        })
    }
}
