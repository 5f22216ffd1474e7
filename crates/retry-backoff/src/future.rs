//! A call under way.

use std::{
    borrow::Borrow,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Class, Classify};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::{
    Attempt, Failure, Retry, RetryError, TimedOut,
    call::{Call, Operation},
    machine::How,
    progress::{May, Past, Progress, how},
};

pin_project! {
    /// A call that is under way: an attempt, or the wait before the next one. The first attempt was
    /// begun when this was made; where time is limited or a budget pays, it is on the first poll.
    /// Dropping it drops whichever is under way; nothing stays behind.
    ///
    /// It needs memory of its own only when an attempt fails, or has to wait under a time limit.
    #[must_use = "futures do nothing unless polled"]
    pub struct Retrying<R, O, C>
    where
        O: Operation,
    {
        retry: R,
        operation: O,
        classifier: C,
        repeatable: bool,
        progress: Progress,
        cold: Slot<O::Error>,
        #[pin]
        work: Work<O::Future>,
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F> {
        Attempt { #[pin] attempt: F },
        Wait,
        // The first attempt has not been made: a limit has to be looked at before.
        Begin { within: Option<Duration> },
        Ended,
    }
}

/// The place for what a call needs once it does not succeed at once: boxed then, and nothing before.
pub(crate) struct Slot<E> {
    cold: Option<Box<Cold<E>>>,
}

impl<E> Default for Slot<E> {
    #[inline(always)]
    fn default() -> Self {
        Self { cold: None }
    }
}

impl<E> Slot<E> {
    pub(crate) fn get(&mut self) -> &mut Cold<E> {
        self.cold.get_or_insert_default()
    }

    #[inline]
    pub(crate) fn past(&self) -> Option<&Past<E>> {
        self.cold.as_deref().map(|cold| &cold.past)
    }
}

/// So small that it is done in place when there is nothing.
impl<E> Drop for Slot<E> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(cold) = self.cold.take() {
            forget(cold);
        }
    }
}

#[cold]
#[inline(never)]
fn forget<E>(cold: Box<Cold<E>>) {
    drop(cold);
}

/// What a call needs once it does not succeed at once.
pub(crate) struct Cold<E> {
    pub(crate) past: Past<E>,
    /// Of the attempt under way, or of the wait.
    timer: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl<E> Default for Cold<E> {
    fn default() -> Self {
        Self {
            past: Past::default(),
            timer: None,
        }
    }
}

impl<R, O, C> Retrying<R, O, C>
where
    R: Borrow<Retry>,
    O: Operation,
{
    #[inline(always)]
    pub(crate) fn begin(call: Call<R, O, C>) -> Self {
        let repeatable = call.repeatable();
        let Call {
            retry,
            mut operation,
            classifier,
            within,
            ..
        } = call;
        // Each is written where it stays: a value that is put together first and then moved costs
        // more than all the rest.
        if retry.borrow().inner.plain && within.is_none() {
            let attempt = operation.begin(Attempt::first());
            Self {
                retry,
                operation,
                classifier,
                repeatable,
                progress: Progress::idle(),
                cold: Slot::default(),
                work: Work::Attempt { attempt },
            }
        } else {
            Self {
                retry,
                operation,
                classifier,
                repeatable,
                progress: Progress::idle(),
                cold: Slot::default(),
                work: Work::Begin { within },
            }
        }
    }
}

impl<R, O, C> Future for Retrying<R, O, C>
where
    R: Borrow<Retry>,
    O: Operation,
    C: Classify<O::Value, O::Error>,
{
    type Output = Result<O::Value, RetryError<O::Error>>;

    /// The common case, that an attempt succeeds, is all that is here; the rest is kept away from
    /// it so that it stays small.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        if let WorkProjection::Begin { within } = this.work.as_mut().project() {
            let retry = (*this.retry).borrow();
            *this.progress = Progress::begin(retry, *within);
            let Some(first) = this.progress.first(retry) else {
                this.work.set(Work::Ended);
                return Poll::Ready(Err(this.progress.too_late(retry, None)));
            };
            let attempt = this.operation.begin(first);
            this.work.set(Work::Attempt { attempt });
        }
        let WorkProjection::Attempt { attempt } = this.work.as_mut().project() else {
            return resume(self, None, cx);
        };
        match attempt.poll(cx) {
            Poll::Ready(output) => match O::split(output) {
                Ok(value) => {
                    if this.classifier.classify(Ok(&value)).class() == Class::Done {
                        let past = this.cold.past();
                        this.progress.succeeded((*this.retry).borrow(), past);
                        this.work.set(Work::Ended);
                        return Poll::Ready(Ok(value));
                    }
                    resume(self, Some(Ok(value)), cx)
                }
                Err(failure) => resume(self, Some(Err(failure)), cx),
            },
            Poll::Pending if !this.progress.is_limited((*this.retry).borrow()) => Poll::Pending,
            Poll::Pending => {
                let cold = this.cold.get();
                let late = cold.poll_limit(this.progress, (*this.retry).borrow(), cx);
                let late = ready!(late);
                resume(self, Some(Err(late)), cx)
            }
        }
    }
}

/// Goes on after an attempt that did not succeed, or while there is none.
#[cold]
#[inline(never)]
fn resume<R, O, C>(
    call: Pin<&mut Retrying<R, O, C>>,
    mut early: Option<Result<O::Value, Failure<O::Error>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<O::Value, RetryError<O::Error>>>
where
    R: Borrow<Retry>,
    O: Operation,
    C: Classify<O::Value, O::Error>,
{
    let mut this = call.project();
    let retry: &Retry = (*this.retry).borrow();
    loop {
        let cold = this.cold.get();
        let result = match (early.take(), this.work.as_mut().project()) {
            (Some(result), _) => result,
            (None, WorkProjection::Attempt { attempt }) => match attempt.poll(cx) {
                Poll::Ready(output) => O::split(output),
                Poll::Pending if !this.progress.is_limited(retry) => return Poll::Pending,
                Poll::Pending => Err(ready!(cold.poll_limit(this.progress, retry, cx))),
            },
            (None, WorkProjection::Wait) => {
                ready!(cold.poll_wait(cx));
                if this.progress.is_over(retry) {
                    this.work.set(Work::Ended);
                    let past = std::mem::take(&mut cold.past);
                    return Poll::Ready(Err(this.progress.too_late(retry, Some(past))));
                }
                let attempt = this.progress.attempt(retry, Some(&cold.past));
                let attempt = this.operation.begin(attempt);
                cold.past.move_on(retry);
                this.work.set(Work::Attempt { attempt });
                continue;
            }
            (None, WorkProjection::Begin { .. } | WorkProjection::Ended) => {
                panic!("a call was polled after it had ended")
            }
        };
        let (result, how) = match result {
            Ok(value) => {
                let verdict = this.classifier.classify(Ok(&value));
                if verdict.class() == Class::Done {
                    this.progress.succeeded(retry, Some(&cold.past));
                    this.work.set(Work::Ended);
                    return Poll::Ready(Ok(value));
                }
                (Ok(value), How::Judged(verdict))
            }
            Err(failure) => {
                let how = how(&failure, |error| this.classifier.classify(Err(error)));
                (Err(failure), how)
            }
        };
        // The attempt is over: its future goes before the wait.
        this.work.set(Work::Wait);
        let may = May::call(*this.repeatable);
        let machine = &mut cold.past.machine;
        match this.progress.failed(retry, machine, how, may) {
            Ok(wait) => cold.begin_wait(wait, result.err()),
            Err(stopped) => {
                this.work.set(Work::Ended);
                let past = std::mem::take(&mut cold.past);
                let progress = this.progress;
                return Poll::Ready(
                    result.map_err(|last| progress.error(retry, past, last, stopped)),
                );
            }
        }
    }
}

impl<E> Cold<E> {
    /// Begins the wait for the next attempt. One of zero has no timer: tokio's would take a
    /// millisecond.
    #[cold]
    pub(crate) fn begin_wait(&mut self, wait: Duration, failure: Option<Failure<E>>) {
        self.past.keep(failure);
        self.timer = (!wait.is_zero()).then(|| (Box::pin(tokio::time::sleep(wait)), wait));
    }

    pub(crate) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((timer, _)) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        self.timer = None;
        Poll::Ready(())
    }

    /// The attempt waits: the timer that ends it is made when it does so for the first time.
    pub(crate) fn poll_limit(
        &mut self,
        progress: &Progress,
        retry: &Retry,
        cx: &mut Context<'_>,
    ) -> Poll<Failure<E>> {
        if self.timer.is_none() {
            let limit = progress.attempt::<E>(retry, None).limit();
            self.timer = limit.map(|limit| (Box::pin(tokio::time::sleep(limit)), limit));
        }
        let Some((timer, limit)) = &mut self.timer else {
            return Poll::Pending;
        };
        ready!(timer.as_mut().poll(cx));
        let late = TimedOut::new(*limit);
        self.timer = None;
        Poll::Ready(Failure::TimedOut(late))
    }
}

impl<R: Borrow<Retry>, O: Operation, C> fmt::Debug for Retrying<R, O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("retry", self.retry.borrow())
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
