//! The response to come.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Refusal, layer::content, respond::Responder};

/// What decides whether a request is let through. It may ask a store, so it is boxed.
type Admitting<B> = Pin<Box<dyn Future<Output = Result<Option<Request<B>>, Refusal>> + Send>>;

pin_project! {
    /// The response to come. Dropping it drops what was read of the request, or the handler's
    /// future.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        work: Work<S::Future, B>,
        // Polled ready, and called once if the request is let through.
        inner: Option<S>,
        responder: Responder,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F, B> {
        Admitting { admitting: Admitting<B> },
        Calling { #[pin] future: F },
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) const fn new(admitting: Admitting<B>, inner: S, responder: Responder) -> Self {
        Self {
            work: Work::Admitting { admitting },
            inner: Some(inner),
            responder,
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: From<Bytes>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let admitted = match this.work.as_mut().project() {
                WorkProjection::Admitting { admitting } => ready!(admitting.as_mut().poll(cx)),
                WorkProjection::Calling { future } => return future.poll(cx),
            };
            let mut inner = this
                .inner
                .take()
                .expect("a future is not polled again once it is ready");
            match admitted {
                Ok(Some(request)) => {
                    let future = inner.call(request);
                    this.work.set(Work::Calling { future });
                }
                Ok(None) => return Poll::Ready(Ok(content())),
                Err(refusal) => return Poll::Ready(Ok(this.responder.respond(&refusal))),
            }
        }
    }
}
