//! The layer and its service.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;

use super::{
    BoxError, ResponseBody, ResponseFuture, causes, exchange::Exchange, log::Panicked, rules::Rules,
};
use crate::{Problem, ToProblem};

/// Puts every error of a service into one shape. Outermost in the stack: what is outside of it is
/// not covered.
///
/// - **Request id.** See [`RequestId`](super::RequestId). The work runs in a span `request` with
///   `request_id`, `method` and `path`; the query is left out, for it may hold secrets.
/// - **Problems.** A response that carries a [`Problem`] (every one made by [`Problem::render`], or
///   returned from an axum handler) is rendered in the form the caller accepts.
/// - **Everything else that is an error**, 400 to 599, without a `Problem`: axum's own rejections
///   and fallbacks, body limits, timeouts. It becomes the problem that stands for its status. Its
///   headers stay (`Allow`, `WWW-Authenticate`, `Retry-After`), its body and what describes it go.
///   One that is marked [`Verbatim`](super::Verbatim) is left alone.
/// - **Panics**, in `call` and in the future: the opaque 500.
/// - **Errors of the service**: a `Problem` leaves as it is. Of any other, whatever its type, the
///   chain of causes is walked from the outside in, and the first that is known decides: by
///   [`EnvelopeLayer::with_error`], by [`EnvelopeLayer::with_fault`], or by itself. These are a
///   [`Rejection`](buttress_core::Rejection) of a breaker, a limiter or the like (503, 429, 504,
///   with `Retry-After`), a retry's [`TimedOut`](buttress_core::TimedOut) and the `Elapsed` of
///   tower and tokio (504), tower's `Overloaded` (503), a `Problem`, a
///   [`PublicFault`](buttress_core::PublicFault), and the errors of other services
///   ([`RemoteProblem`](crate::client::RemoteProblem): 502, 503, 504). All else is the opaque 500.
///   The layered service never fails.
/// - **Refusals of layers within** that answer themselves (a limiter's 429, a key's 409 or 422)
///   have their own code, by the [`PublicFault`](buttress_core::PublicFault) in the extensions of
///   the response; it goes before what [`EnvelopeLayer::with_status`] says of the status.
/// - **The log.** An error from 500 up is logged once, at error level, with code, status and the
///   chain of its sources; one below at debug level.
/// - HEAD, 204 and 304 carry no body; HEAD keeps the length that GET would have.
///
/// Where a request meets the layer twice, the outer one does all that is seen: one id, one
/// rendering, one line of the log.
///
/// A response body that fails while it is streamed is out of reach: its head has been sent.
/// Dropping the response future drops the service's, and nothing is logged.
///
/// ```
/// use buttress_error_envelope::{Problem, tower::EnvelopeLayer};
/// use http::StatusCode;
///
/// let layer = EnvelopeLayer::new().with_status(
///     StatusCode::REQUEST_TIMEOUT,
///     Problem::new(504, "TOO_SLOW", "This took too long."),
/// );
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, Default)]
pub struct EnvelopeLayer {
    pub(super) rules: Arc<Rules>,
}

impl EnvelopeLayer {
    /// The layer as described above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with the problem that stands for a bare error response of this status, instead of
    /// [`Problem::from_status`]. Its own status is the one that leaves.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode, problem: Problem) -> Self {
        Arc::make_mut(&mut self.rules).add_status(status, problem);
        self
    }

    /// The same, with the domain to which codes belong whose problem names none; see
    /// [`Problem::with_domain`].
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.rules).set_domain(domain.into());
        self
    }

    /// The same, with what knows the errors of the service: a layer's own error type, say. It is
    /// asked about the error and then about each of its causes, until it knows one; `None` leaves
    /// it to what the layer knows itself. The whole error is kept as the problem's source.
    #[must_use]
    pub fn with_error(
        mut self,
        rule: impl Fn(&(dyn Error + 'static)) -> Option<Problem> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.rules).set_error(Arc::new(rule));
        self
    }

    /// The same, with one more type of error that is known wherever it is among the causes: a
    /// [`Fault`](buttress_core::Fault) of yours or of a sibling's, or a [`ToProblem`].
    ///
    /// ```
    /// use buttress_core::Fault;
    /// use buttress_error_envelope::tower::EnvelopeLayer;
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("the till is closed")]
    /// struct Closed;
    ///
    /// impl Fault for Closed {
    ///     fn code(&self) -> &'static str { "TILL_CLOSED" }
    ///     fn status(&self) -> u16 { 503 }
    ///     fn public_message(&self) -> std::borrow::Cow<'_, str> { "Tomorrow again.".into() }
    /// }
    ///
    /// let layer = EnvelopeLayer::new().with_fault::<Closed>();
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn with_fault<F: ToProblem + Error + 'static>(mut self) -> Self {
        Arc::make_mut(&mut self.rules).add_fault(causes::known::<F>);
        self
    }
}

impl<S> Layer<S> for EnvelopeLayer {
    type Service = EnvelopeService<S>;

    fn layer(&self, inner: S) -> EnvelopeService<S> {
        EnvelopeService {
            inner,
            rules: Arc::clone(&self.rules),
            unready: None,
        }
    }
}

/// The service that [`EnvelopeLayer`] makes.
pub struct EnvelopeService<S> {
    inner: S,
    rules: Arc<Rules>,
    /// The error with which the service refused to become ready: the next call's answer.
    unready: Option<BoxError>,
}

/// The clone has not been polled, so it knows of no error.
impl<S: Clone> Clone for EnvelopeService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            rules: Arc::clone(&self.rules),
            unready: None,
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for EnvelopeService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvelopeService")
            .field("inner", &self.inner)
            .field("rules", &self.rules)
            .field("unready", &self.unready.is_some())
            .finish()
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for EnvelopeService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.unready.is_none()
            && let Err(error) = std::task::ready!(self.inner.poll_ready(cx))
        {
            self.unready = Some(error.into());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> ResponseFuture<S::Future> {
        let exchange = Exchange::begin(Arc::clone(&self.rules), &mut request);
        if let Some(error) = self.unready.take() {
            let problem = self.rules.for_error(error);
            return ResponseFuture::failed(problem, exchange);
        }
        let call = || exchange.span().in_scope(|| self.inner.call(request));
        // What a panic leaves half-done is the service's own, and it may be called again only
        // because a server that stopped serving would be worse.
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(future) => {
                let future = future.instrument(exchange.span().clone());
                ResponseFuture::running(future, exchange)
            }
            Err(payload) => ResponseFuture::failed(Panicked::problem(&*payload), exchange),
        }
    }
}
