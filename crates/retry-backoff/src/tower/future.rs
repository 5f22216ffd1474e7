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

use super::{
    Replay, Split,
    held::{Alone, Held},
};
use crate::{
    Attempt, Failure, Retry, RetryError,
    future::Slot,
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
        held: Held,
        classifier: C,
        replay: M,
        saved: Option<M::Saved>,
        repeatable: bool,
        progress: Progress,
        cold: Slot<W::Error>,
        #[pin]
        work: Work<S::Future, M::Request, Req>,
        errors: PhantomData<fn() -> W>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F, R, Q> {
        // The first attempt has not been made: a limit has to be looked at before.
        Begin { request: Option<Q> },
        Attempt { #[pin] attempt: F },
        // Between two attempts, the request for the next in hand.
        Wait { request: Option<R> },
        // The wait is over, and the service is asked whether it is ready.
        Ready { request: Option<R> },
        Ended,
    }
}

impl<S, Req, C, M, W> ResponseFuture<S, Req, C, M, W>
where
    S: Service<M::Request>,
    M: Replay<Req>,
    W: Split<S::Error>,
{
    /// Makes the first attempt, unless a limit has to be looked at before. Each part is written
    /// where it stays: a value that is put together first and then moved costs more than the rest.
    #[inline(always)]
    pub(super) fn begin(
        mut service: S,
        retry: &Retry,
        alone: &Alone,
        classifier: C,
        replay: M,
        request: Req,
    ) -> Self {
        let repeatable = replay.is_idempotent(&request);
        let limited = !retry.inner.plain || replay.deadline(&request).is_some();
        if !limited {
            let shared = (!alone.is_whole()).then_some(retry);
            let (request, saved) = replay.first(request);
            let attempt = service.call(request);
            Self {
                service,
                held: Held::of(shared, alone),
                classifier,
                replay,
                saved,
                repeatable,
                progress: Progress::idle(),
                cold: Slot::default(),
                work: Work::Attempt { attempt },
                errors: PhantomData,
            }
        } else {
            Self {
                service,
                held: Held::of(Some(retry), alone),
                classifier,
                replay,
                saved: None,
                repeatable,
                progress: Progress::idle(),
                cold: Slot::default(),
                work: Work::Begin {
                    request: Some(request),
                },
                errors: PhantomData,
            }
        }
    }

    /// Makes the first attempt, if there is time for it.
    fn begin_limited(self: Pin<&mut Self>) -> Option<RetryError<W::Error>> {
        let mut this = self.project();
        let WorkProjection::Begin { request } = this.work.as_mut().project() else {
            return None;
        };
        let request = request.take()?;
        let retry = this.held.get();
        let outer = this.replay.deadline(&request);
        *this.progress = Progress::begin(retry, outer.map(|it| it.left()));
        let Some(first) = this.progress.first(retry) else {
            this.work.set(Work::Ended);
            return Some(this.progress.too_late(retry, None));
        };
        let (mut request, saved) = this.replay.first(request);
        *this.saved = saved;
        tell::<_, _, W::Error>(this.replay, &mut request, first);
        let attempt = this.service.call(request);
        this.work.set(Work::Attempt { attempt });
        None
    }
}

/// Tells the attempt's request until when it may take.
fn tell<Req, M: Replay<Req>, E>(replay: &M, request: &mut M::Request, attempt: Attempt<'_, E>) {
    if let Some(deadline) = attempt.later_deadline() {
        replay.limit(request, deadline);
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

    /// The common case, that an attempt succeeds, is all that is here.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Work::Begin { .. } = self.work
            && let Some(error) = self.as_mut().begin_limited()
        {
            return Poll::Ready(Err(error));
        }
        let mut this = self.as_mut().project();
        let WorkProjection::Attempt { attempt } = this.work.as_mut().project() else {
            return resume(self, None, cx);
        };
        match attempt.poll(cx) {
            Poll::Ready(Ok(response)) => {
                if this.classifier.classify(Ok(&response)).class() == Class::Done {
                    if let Some(retry) = this.held.retry() {
                        this.progress.succeeded(retry, this.cold.past());
                    }
                    this.work.set(Work::Ended);
                    return Poll::Ready(Ok(response));
                }
                resume(self, Some(Ok(response)), cx)
            }
            Poll::Ready(Err(error)) => resume(self, Some(Err(W::split(error))), cx),
            Poll::Pending => match this.held.retry() {
                Some(retry) if this.progress.is_limited(retry) => {
                    let late = this.cold.get().poll_limit(this.progress, retry, cx);
                    let late = ready!(late);
                    resume(self, Some(Err(late)), cx)
                }
                _ => Poll::Pending,
            },
        }
    }
}

/// Goes on after an attempt that did not succeed, or while there is none.
#[cold]
#[inline(never)]
fn resume<S, Req, C, M, W>(
    call: Pin<&mut ResponseFuture<S, Req, C, M, W>>,
    mut early: Option<Result<S::Response, Failure<W::Error>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Response, RetryError<W::Error>>>
where
    S: Service<M::Request>,
    M: Replay<Req>,
    W: Split<S::Error>,
    C: Classify<S::Response, W::Error>,
{
    let mut this = call.project();
    let retry = this.held.get();
    let cold = this.cold.get();
    loop {
        let result = match (early.take(), this.work.as_mut().project()) {
            (Some(result), _) => result,
            (None, WorkProjection::Attempt { attempt }) => match attempt.poll(cx) {
                Poll::Ready(output) => output.map_err(W::split),
                Poll::Pending if !this.progress.is_limited(retry) => return Poll::Pending,
                Poll::Pending => Err(ready!(cold.poll_limit(this.progress, retry, cx))),
            },
            (None, WorkProjection::Wait { request }) => {
                ready!(cold.poll_wait(cx));
                let mut request = request.take();
                if this.progress.is_over(retry) {
                    this.work.set(Work::Ended);
                    let past = std::mem::take(&mut cold.past);
                    return Poll::Ready(Err(this.progress.too_late(retry, Some(past))));
                }
                if let Some(request) = &mut request {
                    let attempt = this.progress.attempt(retry, Some(&cold.past));
                    tell(this.replay, request, attempt);
                }
                this.work.set(Work::Ready { request });
                continue;
            }
            (None, WorkProjection::Ready { request }) => match this.service.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    let Some(request) = request.take() else {
                        unreachable!("it is put there with the state")
                    };
                    cold.past.move_on(retry);
                    let attempt = this.service.call(request);
                    this.work.set(Work::Attempt { attempt });
                    continue;
                }
                // A service that fails to become ready is not called again.
                Poll::Ready(Err(error)) => {
                    this.work.set(Work::Ended);
                    cold.past.move_on(retry);
                    let past = std::mem::take(&mut cold.past);
                    let (progress, last) = (this.progress, W::split(error));
                    return Poll::Ready(Err(progress.never_ready(retry, past, last)));
                }
                // Getting ready takes of the attempt's time.
                Poll::Pending if !this.progress.is_limited(retry) => return Poll::Pending,
                Poll::Pending => {
                    ready!(cold.poll_limit(this.progress, retry, cx));
                    this.work.set(Work::Ended);
                    let past = std::mem::take(&mut cold.past);
                    return Poll::Ready(Err(this.progress.too_late(retry, Some(past))));
                }
            },
            (None, WorkProjection::Begin { .. } | WorkProjection::Ended) => {
                panic!("a response was polled after it had come")
            }
        };
        let (result, how) = match result {
            Ok(response) => {
                let verdict = this.classifier.classify(Ok(&response));
                if verdict.class() == Class::Done {
                    this.progress.succeeded(retry, Some(&cold.past));
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
        let may = May {
            twice: *this.repeatable,
            send: this
                .saved
                .as_ref()
                .is_some_and(|it| this.replay.is_there(it)),
        };
        let machine = &mut cold.past.machine;
        match this.progress.failed(retry, machine, how, may) {
            Ok(wait) => {
                let saved = this.saved.as_mut();
                let request = saved.and_then(|saved| this.replay.again(saved));
                cold.begin_wait(wait, result.err());
                this.work.set(Work::Wait { request });
            }
            Err(stopped) => {
                let past = std::mem::take(&mut cold.past);
                let (progress, retry) = (this.progress, retry);
                return Poll::Ready(
                    result.map_err(|last: Failure<_>| progress.error(retry, past, last, stopped)),
                );
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
            .field("held", &self.held)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
