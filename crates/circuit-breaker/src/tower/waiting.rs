//! A layer whose calls wait, half-open, for a free slot or the verdict.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{ByResult, CallError, Classify, Rejection};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ResponseFuture,
    lanes::{Lane, Lanes},
};
use crate::{
    breaker::acquire,
    cell::Refusal,
    permit::{Held, Leads as _},
};

/// A slot was waited for: rare, so it is boxed.
type Wait = Pin<Box<dyn Future<Output = Result<Held<Arc<Lane>>, Rejection>> + Send>>;

/// A [`CircuitBreakerLayer`](super::CircuitBreakerLayer) whose calls beyond the probes wait as long
/// as the policy's `half_open_wait` says, on tokio's timer. Made by its
/// [`waiting`](super::CircuitBreakerLayer::waiting).
#[derive(Clone, Debug)]
pub struct WaitingLayer<C = ByResult> {
    pub(super) lanes: Lanes,
    pub(super) judge: C,
}

impl<S, C: Clone> Layer<S> for WaitingLayer<C> {
    type Service = WaitingService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        WaitingService {
            inner,
            lanes: self.lanes.clone(),
            judge: self.judge.clone(),
        }
    }
}

/// The service that [`WaitingLayer`] makes.
#[derive(Clone, Debug)]
pub struct WaitingService<S, C = ByResult> {
    inner: S,
    lanes: Lanes,
    judge: C,
}

impl<S, C, Request> Service<Request> for WaitingService<S, C>
where
    S: Service<Request> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = WaitingFuture<S, Request, C>;

    #[inline]
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(CallError::Failed)
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        let lane = self.lanes.mine();
        let core = lane.core();
        let ticket = match core.acquire_plain().map_or_else(|| core.admit(), Ok) {
            Ok(ticket) => Ok(ticket),
            Err(Refusal::Full) if !core.policy().wait().is_zero() => return self.wait(request),
            Err(refusal) => core.refused(refusal),
        };
        WaitingFuture::called(match ticket {
            Ok(ticket) => {
                let mut held = Held::new(lane.clone(), ticket);
                let future = held.run(|| self.inner.call(request));
                ResponseFuture::running(future, held, self.judge.clone())
            }
            Err(rejection) => ResponseFuture::rejected(rejection),
        })
    }
}

impl<S: Clone, C: Clone> WaitingService<S, C> {
    #[cold]
    fn wait<Request>(&mut self, request: Request) -> WaitingFuture<S, Request, C>
    where
        S: Service<Request>,
    {
        let lane = self.lanes.mine().clone();
        let wait: Wait = Box::pin(async move {
            let ticket = acquire(lane.core()).await?;
            Ok(Held::new(lane, ticket))
        });
        // The one that was made ready is called; the next call makes another one ready.
        let next = self.inner.clone();
        let inner = mem::replace(&mut self.inner, next);
        WaitingFuture {
            step: Step::Waiting {
                wait,
                call: Some((inner, request, self.judge.clone())),
            },
        }
    }
}

pin_project! {
    /// The response to come, after a wait perhaps. Dropping it while it waits leaves nothing
    /// behind, and afterwards it is as with [`ResponseFuture`].
    pub struct WaitingFuture<S, Request, C = ByResult>
    where
        S: Service<Request>,
    {
        #[pin]
        step: Step<S, Request, C>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<S, Request, C>
    where
        S: Service<Request>,
    {
        Waiting { wait: Wait, call: Option<(S, Request, C)> },
        Called { #[pin] future: ResponseFuture<S::Future, C> },
    }
}

impl<S: Service<Request>, Request, C> WaitingFuture<S, Request, C> {
    const fn called(future: ResponseFuture<S::Future, C>) -> Self {
        Self {
            step: Step::Called { future },
        }
    }
}

impl<S, Request, C> Future for WaitingFuture<S, Request, C>
where
    S: Service<Request>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, CallError<S::Error>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            let future = match step.as_mut().project() {
                StepProjection::Called { future } => return future.poll(context),
                StepProjection::Waiting { wait, call } => {
                    let got = ready!(wait.as_mut().poll(context));
                    let called = call.take();
                    let (mut inner, request, judge) =
                        called.expect("a future is not polled again once it is ready");
                    let mut held = got?;
                    let future = held.run(|| inner.call(request));
                    ResponseFuture::running(future, held, judge)
                }
            };
            step.set(Step::Called { future });
        }
    }
}

impl<S: Service<Request>, Request, C> fmt::Debug for WaitingFuture<S, Request, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingFuture").finish_non_exhaustive()
    }
}
