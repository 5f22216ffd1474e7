//! A call through a breaker, as a future that borrows it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{ByResult, CallError, Classify, Rejection};
use pin_project_lite::pin_project;

use crate::{
    CircuitBreaker,
    breaker::{Core, acquire},
    cell::{Refusal, Ticket},
    permit::Held,
};

/// A slot was waited for: rare, so it is boxed, and the call stays small.
type Wait<'a> = Pin<Box<dyn Future<Output = Result<Ticket, Rejection>> + Send + 'a>>;

pin_project! {
    /// The call that [`CircuitBreaker::call`] makes. Dropping it drops the call, and gives back
    /// its permit.
    #[must_use = "a future does nothing until it is awaited"]
    pub struct Call<'a, F, C = ByResult> {
        #[pin]
        future: F,
        judge: C,
        core: &'a Core,
        stage: Stage<'a>,
    }
}

enum Stage<'a> {
    New,
    Waiting(Wait<'a>),
    Running(Held<&'a Core>),
    Done,
}

impl<'a, F> Call<'a, F, ByResult> {
    #[inline]
    pub(crate) fn new(breaker: &'a CircuitBreaker, future: F) -> Self {
        Self {
            future,
            judge: ByResult,
            core: breaker.core_ref(),
            stage: Stage::New,
        }
    }
}

impl<'a, F, C> Call<'a, F, C> {
    /// The same call, judged by `judge`: a closure `|result: Result<&T, &E>| -> Verdict`, or your
    /// own type.
    ///
    /// ```
    /// # use buttress_circuit_breaker::CircuitBreaker;
    /// # use buttress_core::Verdict;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let breaker = CircuitBreaker::new("search");
    /// # let ask = async { Ok::<u16, std::io::Error>(503) };
    /// let by_status = |result: Result<&u16, &std::io::Error>| match result {
    ///     Ok(status) if *status >= 500 => Verdict::not_done(),
    ///     Ok(_) => Verdict::success(),
    ///     Err(_) => Verdict::unknown(),
    /// };
    /// let status = breaker.call(ask).by(by_status).await;
    /// assert_eq!(status.ok(), Some(503)); // unchanged, and counted as a failure
    /// assert_eq!(breaker.counts().failed, 1);
    /// # }
    /// ```
    pub fn by<J>(self, judge: J) -> Call<'a, F, J> {
        Call {
            future: self.future,
            judge,
            core: self.core,
            stage: self.stage,
        }
    }
}

impl<F, C, T, E> Future for Call<'_, F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, CallError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !matches!(this.stage, Stage::Running(_))
            && let Err(rejection) = ready!(begin(this.core, this.stage, context))
        {
            *this.stage = Stage::Done;
            return Poll::Ready(Err(rejection.into()));
        }
        let held = match this.stage {
            Stage::Running(held) if !held.is_settled() => held,
            _ => unreachable!("a future is not polled again once it is ready"),
        };
        let (future, judge) = (this.future, this.judge);
        let (result, verdict) = ready!(held.run(|| {
            let result = ready!(future.poll(context));
            let verdict = judge.classify(result.as_ref());
            Poll::Ready((result, verdict))
        }));
        held.settle(verdict.outcome(), verdict.retry_after());
        Poll::Ready(result.map_err(CallError::Failed))
    }
}

/// Gets the permit.
#[inline]
fn begin<'a>(
    core: &'a Core,
    stage: &mut Stage<'a>,
    context: &mut Context<'_>,
) -> Poll<Result<(), Rejection>> {
    if let Stage::New = stage {
        match core.acquire() {
            Ok(ticket) => {
                *stage = Stage::Running(Held::new(core, ticket));
                return Poll::Ready(Ok(()));
            }
            Err(refusal) => {
                if let Err(rejection) = begin_late(core, stage, refusal) {
                    return Poll::Ready(Err(rejection));
                }
            }
        }
    }
    if let Stage::Waiting(wait) = stage {
        let ticket = ready!(wait.as_mut().poll(context))?;
        *stage = Stage::Running(Held::new(core, ticket));
    }
    Poll::Ready(Ok(()))
}

#[cold]
fn begin_late<'a>(
    core: &'a Core,
    stage: &mut Stage<'a>,
    refusal: Refusal,
) -> Result<(), Rejection> {
    *stage = if refusal == Refusal::Full && !core.policy().wait().is_zero() {
        Stage::Waiting(Box::pin(acquire(core)))
    } else {
        Stage::Running(Held::new(core, core.refused(refusal)?))
    };
    Ok(())
}

impl<F, C> fmt::Debug for Call<'_, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("breaker", &self.core)
            .finish_non_exhaustive()
    }
}
