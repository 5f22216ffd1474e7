//! The response to come.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{ByResult, CallError, Classify, Rejection};
use pin_project_lite::pin_project;

use super::lanes::Lane;
use crate::permit::Held;

pin_project! {
    /// The response to come. Dropping it drops the service's own future, gives back its permit,
    /// and counts as abandoned.
    pub struct ResponseFuture<F, C = ByResult> {
        #[pin]
        work: Work<F, C>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F, C> {
        Running { #[pin] future: F, held: Held<Arc<Lane>>, judge: C },
        Rejected { rejection: Option<Box<Rejection>> },
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) const fn running(future: F, held: Held<Arc<Lane>>, judge: C) -> Self {
        Self {
            work: Work::Running {
                future,
                held,
                judge,
            },
        }
    }

    #[cold]
    pub(super) fn rejected(rejection: Rejection) -> Self {
        // Boxed, for the future of a call that is made should not be larger for it.
        let rejection = Some(Box::new(rejection));
        Self {
            work: Work::Rejected { rejection },
        }
    }
}

impl<F, C, T, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, CallError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().work.project() {
            WorkProjection::Running {
                future,
                held,
                judge,
            } => {
                assert!(!held.is_settled(), "{POLLED_AGAIN}");
                let (result, verdict) = ready!(held.run(|| {
                    let result = ready!(future.poll(context));
                    let verdict = judge.classify(result.as_ref());
                    Poll::Ready((result, verdict))
                }));
                held.settle(verdict.outcome(), verdict.retry_after());
                Poll::Ready(result.map_err(CallError::Failed))
            }
            WorkProjection::Rejected { rejection } => {
                let rejection = rejection.take().expect(POLLED_AGAIN);
                Poll::Ready(Err((*rejection).into()))
            }
        }
    }
}

const POLLED_AGAIN: &str = "a future is not polled again once it is ready";

impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
