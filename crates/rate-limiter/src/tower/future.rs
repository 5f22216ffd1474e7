//! The response to come.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{CallError, Rejection};
use pin_project_lite::pin_project;

pin_project! {
    /// The response to come. Dropping it drops the service's own; the permit stays taken.
    pub struct ResponseFuture<F> {
        #[pin]
        work: Work<F>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F> {
        Running { #[pin] future: F },
        Rejected { rejection: Option<Box<Rejection>> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn running(future: F) -> Self {
        Self {
            work: Work::Running { future },
        }
    }

    #[cold]
    pub(super) fn rejected(rejection: Rejection) -> Self {
        let rejection = Some(Box::new(rejection));
        Self {
            work: Work::Rejected { rejection },
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().work.project() {
            WorkProjection::Running { future } => future.poll(context).map_err(CallError::Failed),
            WorkProjection::Rejected { rejection } => {
                let rejection = rejection.take();
                let rejection = rejection.expect("a future is not polled again once it is ready");
                Poll::Ready(Err((*rejection).into()))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
