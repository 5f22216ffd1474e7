//! The response to come.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::ResponseBody;

type Answer<R, E> = Result<Response<ResponseBody<R>>, E>;

pin_project! {
    /// The response to come. Dropped before the request's body was read, nothing was begun; after
    /// that the work goes on without it.
    pub struct ResponseFuture<F, R, E>
    where
        R: Body,
    {
        #[pin]
        work: Work<F, R, E>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F, R, E>
    where
        R: Body,
    {
        Passing { #[pin] future: F },
        Refused { refused: Option<Response<ResponseBody<R>>> },
        // Boxed: a store is asked on the way, and what does so has no name.
        Taken { future: Pin<Box<dyn Future<Output = Answer<R, E>> + Send>> },
    }
}

impl<F, R: Body, E> ResponseFuture<F, R, E> {
    pub(super) const fn passing(future: F) -> Self {
        Self {
            work: Work::Passing { future },
        }
    }

    pub(super) const fn refused(refused: Response<ResponseBody<R>>) -> Self {
        Self {
            work: Work::Refused {
                refused: Some(refused),
            },
        }
    }

    pub(super) fn taken(future: impl Future<Output = Answer<R, E>> + Send + 'static) -> Self {
        Self {
            work: Work::Taken {
                future: Box::pin(future),
            },
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Answer<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().work.project() {
            WorkProjection::Passing { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::passing)))
            }
            WorkProjection::Refused { refused } => {
                let refused = refused.take();
                Poll::Ready(Ok(
                    refused.expect("a future is not polled again once it is ready")
                ))
            }
            WorkProjection::Taken { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F, R: Body, E> fmt::Debug for ResponseFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
