//! The response to come.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tracing::instrument::Instrumented;

use super::{BoxError, ResponseBody, exchange::Exchange, log::Panicked};
use crate::Problem;

pin_project! {
    /// The response to come. Dropping it drops the service's own future.
    pub struct ResponseFuture<F> {
        #[pin]
        work: Work<F>,
        exchange: Option<Exchange>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F> {
        Running { #[pin] future: Instrumented<F> },
        Failed { problem: Problem },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn running(future: Instrumented<F>, exchange: Exchange) -> Self {
        Self {
            work: Work::Running { future },
            exchange: Some(exchange),
        }
    }

    pub(super) const fn failed(problem: Problem, exchange: Exchange) -> Self {
        Self {
            work: Work::Failed { problem },
            exchange: Some(exchange),
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = match this.work.project() {
            // A future that panicked is not polled again: this poll is the last.
            WorkProjection::Running { future } => {
                match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(result)) => result.map_err(|error| Err(error.into())),
                    Err(payload) => Err(Ok(Panicked::problem(&*payload))),
                }
            }
            WorkProjection::Failed { problem } => Err(Ok(problem.clone())),
        };
        let exchange = this
            .exchange
            .take()
            .expect("a future is not polled again once it is ready");
        Poll::Ready(Ok(exchange.end(outcome)))
    }
}
