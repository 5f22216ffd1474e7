//! The layer and its service.

use std::task::{Context, Poll};

use buttress_core::{ByResult, CallError, Classify};
use tower_layer::Layer;
use tower_service::Service;

use super::{ResponseFuture, WaitingLayer, lanes::Lanes};
use crate::{
    CircuitBreaker,
    permit::{Held, Leads as _},
};

/// Puts a breaker around a service.
///
/// The breaker is the one it is made with: a layer that is applied anew for each connection, as
/// axum does, or to several services, shares its state everywhere.
///
/// Whether a call may be made is decided in `call`, before the inner service sees the request;
/// `poll_ready` only forwards. A rejection is `CallError::Rejected`, an error of the service
/// `CallError::Failed`. Calls beyond the probes of the half-open state are rejected at once, or wait
/// in the layer that [`waiting`](CircuitBreakerLayer::waiting) makes of it.
/// Dropping the response future drops the service's own and counts as abandoned.
///
/// ```
/// use buttress_circuit_breaker::{CircuitBreaker, tower::CircuitBreakerLayer};
/// use buttress_core::Verdict;
///
/// struct Response { status: u16 }
/// let by_status = |result: Result<&Response, &std::io::Error>| match result {
///     Ok(response) if response.status >= 500 => Verdict::unknown(),
///     Ok(_) => Verdict::success(),
///     Err(_) => Verdict::unknown(),
/// };
/// let layer = CircuitBreakerLayer::new(&CircuitBreaker::new("carrier")).by(by_status);
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer<C = ByResult> {
    lanes: Lanes,
    judge: C,
}

impl CircuitBreakerLayer {
    /// Every error of the service is a failure, every response a success.
    #[must_use]
    pub fn new(breaker: &CircuitBreaker) -> Self {
        Self {
            lanes: Lanes::new(breaker),
            judge: ByResult,
        }
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// The same, judged by `judge`, which sees the whole response. It is cloned with every call.
    #[must_use]
    pub fn by<J>(self, judge: J) -> CircuitBreakerLayer<J> {
        CircuitBreakerLayer {
            lanes: self.lanes,
            judge,
        }
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// The same, where calls beyond the probes of the half-open state wait as long as the policy's
    /// `half_open_wait` says. The service must be `Clone`: while a call waits it keeps the one that
    /// was made ready for it.
    #[must_use]
    pub fn waiting(self) -> WaitingLayer<C> {
        WaitingLayer {
            lanes: self.lanes,
            judge: self.judge,
        }
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService {
            inner,
            lanes: self.lanes.clone(),
            judge: self.judge.clone(),
        }
    }
}

/// The service that [`CircuitBreakerLayer`] makes.
#[derive(Clone, Debug)]
pub struct CircuitBreakerService<S, C = ByResult> {
    inner: S,
    lanes: Lanes,
    judge: C,
}

impl<S, C, Request> Service<Request> for CircuitBreakerService<S, C>
where
    S: Service<Request>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = ResponseFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(CallError::Failed)
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let lane = self.lanes.mine();
        let ticket = match lane.core().acquire() {
            Ok(ticket) => ticket,
            Err(rejection) => return ResponseFuture::rejected(rejection),
        };
        let mut held = Held::new(lane.clone(), ticket);
        let future = held.run(|| self.inner.call(request));
        ResponseFuture::running(future, held, self.judge.clone())
    }
}
