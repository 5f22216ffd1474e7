//! A hedged call under way.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Class, Classify, Moment};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::Hedge;
use crate::{
    Attempt, Event, Failure, RetryError, Stopped,
    attempt::Times,
    budget::{Strain, Ticket},
    call::Operation,
};

pin_project! {
    /// A hedged call that is under way. Dropping it drops all its attempts.
    ///
    /// It needs memory of its own only once the first attempt has to wait.
    #[must_use = "futures do nothing unless polled"]
    pub struct Hedging<O, C>
    where
        O: Operation,
    {
        hedge: Hedge,
        operation: O,
        classifier: C,
        ticket: Option<Ticket>,
        began: Option<Moment>,
        #[pin]
        first: Option<O::Future>,
        beside: Vec<Pin<Box<O::Future>>>,
        count: Count,
        next: Next,
        // What the first attempt came to, and how the others failed.
        outcome: Option<Result<O::Value, Failure<O::Error>>>,
        failures: Vec<Failure<O::Error>>,
    }
}

#[derive(Debug, Default)]
struct Count {
    begun: u32,
    /// Why there will be no further attempt: the budget refused, one was rejected, or the request
    /// cannot be had again.
    closed: Option<Stopped>,
}

/// When the next attempt is begun.
enum Next {
    /// It has not been asked yet.
    Unset,
    Now,
    At(Pin<Box<Sleep>>),
    /// When one fails.
    Failure,
}

impl Next {
    fn after(delay: Option<Duration>) -> Self {
        match delay {
            None => Self::Failure,
            Some(Duration::ZERO) => Self::Now,
            Some(delay) => Self::At(Box::pin(tokio::time::sleep(delay))),
        }
    }

    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Now => true,
            Self::At(sleep) => sleep.as_mut().poll(cx).is_ready(),
            Self::Unset | Self::Failure => false,
        }
    }
}

/// What an attempt that ended means for the others.
enum Ended {
    /// It wins.
    Won,
    /// The same would fail again.
    Final,
    /// The next is begun, at once or after this.
    Failed(Option<Duration>),
    /// There is no point in another.
    Rejected,
}

impl<O: Operation, C> Hedging<O, C> {
    pub(super) fn begin(hedge: Hedge, mut operation: O, classifier: C) -> Self {
        let began = hedge.measures().then(|| hedge.inner.clock.now());
        let ticket = hedge.inner.budget.as_ref().map(crate::Budget::enter);
        let first = operation.begin(Attempt::first());
        Self {
            hedge,
            operation,
            classifier,
            ticket,
            began,
            first: Some(first),
            beside: Vec::new(),
            count: Count {
                begun: 1,
                closed: None,
            },
            next: Next::Unset,
            outcome: None,
            failures: Vec::new(),
        }
    }
}

impl<O, C> Future for Hedging<O, C>
where
    O: Operation,
    C: Classify<O::Value, O::Error>,
{
    type Output = Result<O::Value, RetryError<O::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            // All that are under way, the first one first.
            let mut ended = None;
            if let Some(first) = this.first.as_mut().as_pin_mut()
                && let Poll::Ready(output) = first.poll(cx)
            {
                this.first.set(None);
                ended = Some((O::split(output), true));
            }
            let mut at = 0;
            while ended.is_none() && at < this.beside.len() {
                match this.beside[at].as_mut().poll(cx) {
                    Poll::Ready(output) => {
                        drop(this.beside.swap_remove(at));
                        ended = Some((O::split(output), false));
                    }
                    Poll::Pending => at += 1,
                }
            }
            if let Some((result, is_first)) = ended {
                let meaning = meaning(&result, |result| this.classifier.classify(result));
                if matches!(meaning, Ended::Failed(_))
                    && let Some(ticket) = this.ticket
                {
                    ticket.failed_beside();
                }
                match meaning {
                    Ended::Won | Ended::Final => {
                        this.first.set(None);
                        this.beside.clear();
                        this.count.closed = Some(Stopped::Final);
                        let stopped = matches!(meaning, Ended::Final).then_some(Stopped::Final);
                        let failures = std::mem::take(this.failures);
                        tell_end(
                            this.hedge,
                            this.ticket,
                            *this.began,
                            this.count.begun,
                            stopped,
                        );
                        return Poll::Ready(result.map_err(|last| {
                            RetryError::new(last, failures, Stopped::Final, this.count.begun, None)
                        }));
                    }
                    Ended::Failed(None) => *this.next = Next::Now,
                    Ended::Failed(delay) => *this.next = Next::after(delay),
                    Ended::Rejected => this.count.closed = Some(Stopped::Rejected),
                }
                match (is_first, result) {
                    (true, result) => *this.outcome = Some(result),
                    (false, Err(failure)) => this.failures.push(failure),
                    // One beside that was judged a failure: the first one's result is what counts.
                    (false, Ok(_)) => {}
                }
                continue;
            }
            if matches!(this.next, Next::Unset) {
                *this.next = Next::after(this.hedge.delay());
            }
            let may = this.count.begun <= this.hedge.inner.most && this.count.closed.is_none();
            if may && this.next.is_due(cx) {
                if !this.operation.is_there() {
                    this.count.closed = Some(Stopped::Unrepeatable);
                    continue;
                }
                if this
                    .ticket
                    .as_mut()
                    .is_some_and(|it| !it.withdraw(Strain::Error))
                {
                    this.count.closed = Some(Stopped::Budget);
                    continue;
                }
                this.count.begun += 1;
                let begun = this.count.begun;
                this.hedge.inner.observers.tell(|| Event::Hedged {
                    name: this.hedge.inner.name.clone(),
                    attempt: begun,
                });
                let attempt = Attempt::new(begun, None, Times::NONE);
                this.beside.push(Box::pin(this.operation.begin(attempt)));
                *this.next = Next::after(this.hedge.delay());
                continue;
            }
            if this.first.is_some() || !this.beside.is_empty() || may {
                return Poll::Pending;
            }
            // All have failed.
            let Some(outcome) = this.outcome.take() else {
                panic!("a call was polled after it had ended")
            };
            let stopped = match &outcome {
                Err(Failure::Rejected(_)) => Stopped::Rejected,
                _ => this.count.closed.unwrap_or(Stopped::Attempts),
            };
            tell_end(
                this.hedge,
                this.ticket,
                *this.began,
                this.count.begun,
                Some(stopped),
            );
            let failures = std::mem::take(this.failures);
            return Poll::Ready(outcome.map_err(|first| {
                RetryError::new(first, failures, stopped, this.count.begun, None)
            }));
        }
    }
}

fn meaning<T, E>(
    result: &Result<T, Failure<E>>,
    judge: impl FnOnce(Result<&T, &E>) -> buttress_core::Verdict,
) -> Ended {
    let verdict = match result {
        Ok(value) => judge(Ok(value)),
        Err(Failure::Failed(error)) => judge(Err(error)),
        Err(Failure::Rejected(_) | Failure::TimedOut(_)) => return Ended::Rejected,
    };
    match verdict.class() {
        Class::Done if result.is_ok() => Ended::Won,
        Class::NotDone | Class::Unknown => Ended::Failed(verdict.retry_after()),
        _ => Ended::Final,
    }
}

fn tell_end(
    hedge: &Hedge,
    ticket: &mut Option<Ticket>,
    began: Option<Moment>,
    attempts: u32,
    stopped: Option<Stopped>,
) {
    let name = || hedge.inner.name.clone();
    match stopped {
        None => {
            if let Some(began) = began {
                // Of the first attempt: how long it took, or at least took.
                hedge.seen(hedge.inner.clock.now().saturating_since(began));
            }
            if let Some(ticket) = ticket {
                ticket.succeeded();
            }
            hedge.inner.observers.tell(|| Event::Succeeded {
                name: name(),
                attempts,
            });
        }
        Some(stopped) => {
            if let Some(ticket) = ticket {
                ticket.gave_up();
            }
            hedge.inner.observers.tell(|| Event::GaveUp {
                name: name(),
                attempts,
                stopped,
            });
        }
    }
}

impl<O: Operation, C> fmt::Debug for Hedging<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedging")
            .field("hedge", &self.hedge)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
