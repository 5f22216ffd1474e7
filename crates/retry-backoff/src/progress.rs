//! One call under way: the machine with the handle's clock, dice and listeners around it.

use std::time::Duration;

use buttress_core::{Moment, Rejection, RejectionKind, Verdict};

use crate::{
    Attempt, Budget, Event, Failure, Retry, RetryError, Stopped,
    attempt::Times,
    budget::Ticket,
    machine::{Decision, How, Machine, Terms},
};

/// How many errors are kept at most, so that a call without a limit cannot fill the memory.
const KEPT: usize = 100;

/// What a call holds from its beginning, first attempt included: nothing that needs memory.
/// Dropped without an end, it gives back to the budget what it holds.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When it began and when it must end. The clock is read only when it must end.
    times: Option<(Moment, Moment)>,
    ticket: Option<Ticket>,
}

impl Progress {
    /// Of a call that nothing limits.
    #[inline(always)]
    pub(crate) const fn idle() -> Self {
        Self {
            times: None,
            ticket: None,
        }
    }

    #[inline]
    pub(crate) fn begin(retry: &Retry, within: Option<Duration>) -> Self {
        let inner = &*retry.inner;
        let times = match (inner.policy.total_time, within) {
            (None, None) => None,
            (policys, own) => Some(Self::times(retry, policys, own)),
        };
        Self {
            times,
            ticket: inner.budget.as_ref().map(Budget::enter),
        }
    }

    #[cold]
    fn times(retry: &Retry, policys: Option<Duration>, own: Option<Duration>) -> (Moment, Moment) {
        let total = policys
            .unwrap_or(Duration::MAX)
            .min(own.unwrap_or(Duration::MAX));
        let now = retry.inner.clock.now();
        (now, now.saturating_add(total))
    }

    /// Sets the end anew, to so long from now, where the policy does not limit it more.
    pub(crate) fn limit(&mut self, retry: &Retry, at_most: Duration) {
        self.times = Some(Self::times(
            retry,
            retry.inner.policy.total_time,
            Some(at_most),
        ));
    }

    /// The time that is left, if it is limited.
    #[inline]
    pub(crate) fn left(&self, retry: &Retry) -> Option<Duration> {
        let (_, end) = self.times?;
        Some(end.saturating_since(retry.inner.clock.now()))
    }

    fn elapsed(&self, retry: &Retry) -> Option<Duration> {
        let (begin, _) = self.times?;
        Some(retry.inner.clock.now().saturating_since(begin))
    }

    /// Whether there is no time for an attempt.
    #[inline]
    pub(crate) fn is_over(&self, retry: &Retry) -> bool {
        self.left(retry)
            .is_some_and(|left| left.is_zero() || left < retry.inner.policy.least_time)
    }

    /// Whether an attempt may be dropped for its time.
    #[inline]
    pub(crate) fn is_limited(&self, retry: &Retry) -> bool {
        self.times.is_some() || retry.inner.policy.attempt_timeout.is_some()
    }

    /// What an attempt may know.
    #[inline]
    pub(crate) fn attempt<'a, E>(
        &self,
        retry: &'a Retry,
        past: Option<&'a Past<E>>,
    ) -> Attempt<'a, E> {
        let (number, last) = match past {
            Some(past) => (
                past.machine.attempts().saturating_add(1),
                past.last.as_ref(),
            ),
            None => (1, None),
        };
        let now = self.times.map(|_| retry.inner.clock.now());
        Attempt::new(number, last, self.limits(retry, now))
    }

    /// The first attempt, at the moment at which the call has begun: the clock is not read again.
    /// `None` when there is no time for it.
    #[inline]
    pub(crate) fn first<'a, E>(&self, retry: &'a Retry) -> Option<Attempt<'a, E>> {
        let times = self.limits(retry, self.times.map(|(begin, _)| begin));
        let least = retry.inner.policy.least_time;
        if times
            .left
            .is_some_and(|left| left.is_zero() || left < least)
        {
            return None;
        }
        Some(Attempt::new(1, None, times))
    }

    /// What limits an attempt that is begun `now`.
    fn limits<'a>(&self, retry: &'a Retry, now: Option<Moment>) -> Times<'a> {
        let left = self.times.zip(now);
        Times {
            left: left.map(|((_, end), now)| end.saturating_since(now)),
            limit: retry.inner.policy.attempt_timeout,
            clock: Some(&retry.inner.clock),
            now,
        }
    }

    #[inline]
    pub(crate) fn succeeded<E>(&mut self, retry: &Retry, past: Option<&Past<E>>) {
        if let Some(ticket) = &mut self.ticket {
            ticket.succeeded();
        }
        retry.inner.observers.tell(|| Event::Succeeded {
            name: retry.inner.name.clone(),
            attempts: past.map_or(1, |past| past.machine.attempts().saturating_add(1)),
        });
    }

    /// After a failed attempt: how long to wait for the next, or why there is none.
    #[cold]
    pub(crate) fn failed(
        &mut self,
        retry: &Retry,
        machine: &mut Machine,
        how: How,
        may: May,
    ) -> Result<Duration, Stopped> {
        let terms = Terms {
            repeatable: may.twice,
            sendable: may.send,
            left: self.left(retry),
        };
        let inner = &*retry.inner;
        let mut decision = machine.failed(&inner.policy, how, terms, || inner.dice.roll());
        if let Some(ticket) = &mut self.ticket {
            let strain = how.strain();
            if how.burdens() {
                ticket.failed();
            }
            // Last, so that nothing is taken for a retry that another limit forbids.
            if matches!(decision, Decision::Retry(_)) && !ticket.withdraw(strain) {
                decision = Decision::Stop(Stopped::Budget);
            }
        }
        match decision {
            Decision::Retry(wait) => {
                inner.observers.tell(|| Event::Retrying {
                    name: inner.name.clone(),
                    attempt: machine.attempts(),
                    wait,
                });
                Ok(wait)
            }
            Decision::Stop(stopped) => {
                self.gave_up(retry, machine.attempts(), stopped);
                Err(stopped)
            }
        }
    }

    fn gave_up(&mut self, retry: &Retry, attempts: u32, stopped: Stopped) {
        if let Some(ticket) = &mut self.ticket {
            ticket.gave_up();
        }
        retry.inner.observers.tell(|| Event::GaveUp {
            name: retry.inner.name.clone(),
            attempts,
            stopped,
        });
    }

    /// The error for a call whose time is over before an attempt.
    #[cold]
    pub(crate) fn too_late<E>(&mut self, retry: &Retry, past: Option<Past<E>>) -> RetryError<E> {
        let mut past = past.unwrap_or_default();
        let last = past.last.take();
        let last = last.unwrap_or_else(|| {
            let name = retry.inner.name.to_string();
            Failure::Rejected(Rejection::new(RejectionKind::DeadlineExceeded, name))
        });
        self.gave_up(retry, past.machine.attempts(), Stopped::Time);
        self.error(retry, past, last, Stopped::Time)
    }

    /// The error when the service did not become ready for the next attempt: no attempt was made.
    #[cfg(feature = "tower")]
    #[cold]
    pub(crate) fn never_ready<E>(
        &mut self,
        retry: &Retry,
        past: Past<E>,
        last: Failure<E>,
    ) -> RetryError<E> {
        self.gave_up(retry, past.machine.attempts(), Stopped::Final);
        self.error(retry, past, last, Stopped::Final)
    }

    #[cold]
    pub(crate) fn error<E>(
        &self,
        retry: &Retry,
        past: Past<E>,
        last: Failure<E>,
        stopped: Stopped,
    ) -> RetryError<E> {
        let attempts = past.machine.attempts();
        RetryError::new(last, past.earlier, stopped, attempts, self.elapsed(retry))
    }
}

/// So small that it is done in place when there is no ticket.
impl Drop for Progress {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            forget(ticket);
        }
    }
}

#[cold]
#[inline(never)]
fn forget(ticket: Ticket) {
    drop(ticket);
}

/// What a call holds once an attempt has failed.
#[derive(Debug)]
pub(crate) struct Past<E> {
    pub(crate) machine: Machine,
    /// How the last attempt failed, while the next is waited for or under way.
    last: Option<Failure<E>>,
    earlier: Vec<Failure<E>>,
}

impl<E> Default for Past<E> {
    fn default() -> Self {
        Self {
            machine: Machine::default(),
            last: None,
            earlier: Vec::new(),
        }
    }
}

impl<E> Past<E> {
    /// Takes note of a failure after which there is another attempt.
    pub(crate) fn keep(&mut self, failure: Option<Failure<E>>) {
        self.last = failure;
    }

    /// Makes place for the next failure: the one before is kept or forgotten.
    pub(crate) fn move_on(&mut self, retry: &Retry) {
        if let Some(last) = self.last.take()
            && retry.inner.policy.keep_errors
        {
            if self.earlier.len() == KEPT {
                self.earlier.remove(0);
            }
            self.earlier.push(last);
        }
    }
}

/// What the rules need to know of a failure.
pub(crate) fn how<E>(failure: &Failure<E>, judge: impl FnOnce(&E) -> Verdict) -> How {
    match failure {
        Failure::Failed(error) => How::Judged(judge(error)),
        Failure::Rejected(rejection) => How::Rejected {
            retry_after: rejection.retry_after(),
        },
        Failure::TimedOut(_) => How::TimedOut,
    }
}

/// Whether a further attempt is allowed, and whether it is possible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct May {
    /// It may be done twice.
    pub(crate) twice: bool,
    /// There is something to send again.
    pub(crate) send: bool,
}

impl May {
    /// For an operation, which can always be called again.
    pub(crate) const fn call(twice: bool) -> Self {
        Self { twice, send: true }
    }
}
