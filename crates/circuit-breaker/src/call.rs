//! A call through a breaker, as a future that borrows it.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{ByResult, CallError, Classify, Rejection};
use pin_project_lite::pin_project;

use crate::{
    CircuitBreaker,
    breaker::{Core, acquire},
    cell::{Refusal, Ticket},
    permit::{Unwinding, dropped},
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
    Running(Running<'a>),
    Done,
}

/// A call that has begun and is not over. Dropped, it is abandoned.
struct Running<'a> {
    core: &'a Core,
    ticket: Ticket,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        dropped(self.core, self.ticket);
    }
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

impl<F, C> Call<'_, F, C> {
    /// Makes the call, or, when it is rejected, takes what `answer` makes of the rejection. What
    /// the call itself returns is left as it is.
    ///
    /// ```
    /// # use buttress_circuit_breaker::CircuitBreaker;
    /// # use buttress_core::Verdict;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let breaker = CircuitBreaker::new("search");
    /// # let ask = async { Ok::<&str, std::io::Error>("fresh") };
    /// # let judge = |_: Result<&&str, &std::io::Error>| Verdict::success();
    /// breaker.force_open();
    /// let answer = breaker.call(ask).by(judge).fallback(|_rejection| Ok("cached")).await;
    /// assert_eq!(answer.ok(), Some("cached"));
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The call's own, or the fallback's.
    pub async fn fallback<T, E>(
        self,
        answer: impl FnOnce(Rejection) -> Result<T, E>,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        match self.await {
            Ok(value) => Ok(value),
            Err(CallError::Failed(error)) => Err(error),
            Err(CallError::Rejected(rejection)) => answer(rejection),
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
        let core: &Core = this.core;
        // While it is polled it is done: so it is left by a panic.
        let ticket = match mem::replace(this.stage, Stage::Done) {
            Stage::New => match core.acquire_plain() {
                Some(ticket) => ticket,
                None => ready!(begin(core, this.stage, context))?,
            },
            Stage::Running(running) => running.resume(),
            Stage::Waiting(wait) => ready!(wait_on(wait, this.stage, context))?,
            Stage::Done => unreachable!("a future is not polled again once it is ready"),
        };
        let unwinding = Unwinding::new(core, ticket);
        let Poll::Ready(result) = this.future.poll(context) else {
            unwinding.forget();
            *this.stage = Stage::Running(Running { core, ticket });
            return Poll::Pending;
        };
        let verdict = this.judge.classify(result.as_ref());
        unwinding.forget();
        core.settle(ticket, verdict.outcome(), verdict.retry_after());
        Poll::Ready(result.map_err(CallError::Failed))
    }
}

impl Running<'_> {
    #[inline]
    const fn resume(self) -> Ticket {
        let ticket = self.ticket;
        mem::forget(self);
        ticket
    }
}

/// Gets the permit where that takes more than a look.
#[cold]
fn begin<'a>(
    core: &'a Core,
    stage: &mut Stage<'a>,
    context: &mut Context<'_>,
) -> Poll<Result<Ticket, Rejection>> {
    match core.admit() {
        Ok(ticket) => Poll::Ready(Ok(ticket)),
        Err(Refusal::Full) if !core.policy().wait().is_zero() => {
            wait_on(Box::pin(acquire(core)), stage, context)
        }
        Err(refusal) => Poll::Ready(core.refused(refusal)),
    }
}

#[cold]
fn wait_on<'a>(
    mut wait: Wait<'a>,
    stage: &mut Stage<'a>,
    context: &mut Context<'_>,
) -> Poll<Result<Ticket, Rejection>> {
    let polled = wait.as_mut().poll(context);
    if polled.is_pending() {
        *stage = Stage::Waiting(wait);
    }
    polled
}

impl<F, C> fmt::Debug for Call<'_, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("breaker", &self.core)
            .finish_non_exhaustive()
    }
}
