//! The response to come.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Class, Classify};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Replay, Split};
use crate::{
    Failure, Retry, RetryError,
    future::Cold,
    machine::How,
    progress::{May, Progress, how},
};

pin_project! {
    /// The response to come. Dropping it drops the attempt or the wait that is under way.
    pub struct ResponseFuture<S, Req, C, M, W>
    where
        S: Service<M::Request>,
        M: Replay<Req>,
        W: Split<S::Error>,
    {
        service: S,
        retry: Retry,
        classifier: C,
        replay: M,
        saved: Option<M::Saved>,
        repeatable: bool,
        progress: Progress,
        cold: Option<Box<Cold<W::Error>>>,
        #[pin]
        work: Work<S::Future, M::Request>,
        errors: PhantomData<fn(Req) -> W>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F, R> {
        Attempt { #[pin] attempt: F },
        // Between two attempts, the request for the next in hand.
        Wait { request: Option<R> },
        // The wait is over, and the service is asked whether it is ready.
        Ready { request: Option<R> },
        TooLate,
        Ended,
    }
}

impl<S, Req, C, M, W> ResponseFuture<S, Req, C, M, W>
where
    S: Service<M::Request>,
    M: Replay<Req>,
    W: Split<S::Error>,
{
    pub(super) fn begin(
        mut service: S,
        retry: Retry,
        classifier: C,
        replay: M,
        request: Req,
    ) -> Self {
        let progress = Progress::begin(&retry, None);
        let repeatable = replay.is_idempotent(&request);
        let (request, saved) = replay.first(request);
        let work = if progress.first::<()>(&retry).is_none() {
            Work::TooLate
        } else {
            Work::Attempt {
                attempt: service.call(request),
            }
        };
        Self {
            service,
            retry,
            classifier,
            replay,
            saved,
            repeatable,
            progress,
            cold: None,
            work,
            errors: PhantomData,
        }
    }
}

impl<S, Req, C, M, W> Future for ResponseFuture<S, Req, C, M, W>
where
    S: Service<M::Request>,
    M: Replay<Req>,
    W: Split<S::Error>,
    C: Classify<S::Response, W::Error>,
{
    type Output = Result<S::Response, RetryError<W::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let result = match this.work.as_mut().project() {
                WorkProjection::Attempt { attempt } => match attempt.poll(cx) {
                    Poll::Ready(output) => output.map_err(W::split),
                    Poll::Pending if !this.progress.is_limited(this.retry) => return Poll::Pending,
                    Poll::Pending => {
                        let cold = this.cold.get_or_insert_default();
                        Err(ready!(cold.poll_limit(this.progress, this.retry, cx)))
                    }
                },
                WorkProjection::Wait { request } => {
                    let cold = this.cold.get_or_insert_default();
                    ready!(cold.poll_wait(cx));
                    let request = request.take();
                    if this.progress.is_over(this.retry) {
                        this.work.set(Work::Ended);
                        let past = std::mem::take(&mut cold.past);
                        return Poll::Ready(Err(this.progress.too_late(this.retry, Some(past))));
                    }
                    cold.past.move_on(this.retry);
                    this.work.set(Work::Ready { request });
                    continue;
                }
                WorkProjection::Ready { request } => match this.service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        let Some(request) = request.take() else {
                            unreachable!("it is put there with the state")
                        };
                        let attempt = this.service.call(request);
                        this.work.set(Work::Attempt { attempt });
                        continue;
                    }
                    // A service that fails to become ready is not called again.
                    Poll::Ready(Err(error)) => {
                        this.work.set(Work::Ended);
                        return Poll::Ready(Err(RetryError::never_ready(W::split(error))));
                    }
                    Poll::Pending if !this.progress.is_limited(this.retry) => return Poll::Pending,
                    Poll::Pending => {
                        let cold = this.cold.get_or_insert_default();
                        Err(ready!(cold.poll_limit(this.progress, this.retry, cx)))
                    }
                },
                WorkProjection::TooLate => {
                    this.work.set(Work::Ended);
                    return Poll::Ready(Err(this.progress.too_late(this.retry, None)));
                }
                WorkProjection::Ended => panic!("a response was polled after it had come"),
            };
            let (result, how) = match result {
                Ok(response) => {
                    let verdict = this.classifier.classify(Ok(&response));
                    if verdict.class() == Class::Done {
                        let past = this.cold.as_deref().map(|cold| &cold.past);
                        this.progress.succeeded(this.retry, past);
                        this.work.set(Work::Ended);
                        return Poll::Ready(Ok(response));
                    }
                    (Ok(response), How::Judged(verdict))
                }
                Err(failure) => {
                    let how = how(&failure, |error| this.classifier.classify(Err(error)));
                    (Err(failure), how)
                }
            };
            // The attempt's future goes first: its request's body comes back with it.
            this.work.set(Work::Ended);
            let cold = this.cold.get_or_insert_default();
            let may = May {
                twice: *this.repeatable,
                send: this
                    .saved
                    .as_ref()
                    .is_some_and(|it| this.replay.is_there(it)),
            };
            let machine = &mut cold.past.machine;
            match this.progress.failed(this.retry, machine, how, may) {
                Ok(wait) => {
                    let saved = this.saved.as_mut();
                    let request = saved.and_then(|saved| this.replay.again(saved));
                    cold.begin_wait(wait, result.err());
                    this.work.set(Work::Wait { request });
                }
                Err(stopped) => {
                    let past = std::mem::take(&mut cold.past);
                    let (progress, retry) = (this.progress, this.retry);
                    return Poll::Ready(
                        result
                            .map_err(|last: Failure<_>| progress.error(retry, past, last, stopped)),
                    );
                }
            }
        }
    }
}

impl<S, Req, C, M, W> fmt::Debug for ResponseFuture<S, Req, C, M, W>
where
    S: Service<M::Request>,
    M: Replay<Req>,
    W: Split<S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("retry", &self.retry)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
