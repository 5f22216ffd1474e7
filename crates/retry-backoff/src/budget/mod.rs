//! How many retries all callers may make together, so that retries never become the outage.

#[cfg(feature = "fleet")]
mod fleet;
mod purse;
mod quota;
mod rule;
mod share;
mod throttle;
mod ticket;
mod together;
mod tokens;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use buttress_core::Clock;

pub use self::rule::BudgetRule;
pub(crate) use self::ticket::Ticket;
#[cfg(feature = "fleet")]
pub(crate) use self::{fleet::Pooled, purse::Drawn};
use self::{purse::Purse, quota::Quota, share::Share, throttle::Throttle, tokens::Tokens};
use crate::PolicyError;

/// What the retries and hedges of all callers are paid from. Give clones of one to every handle
/// that calls the same service; clones share one state.
///
/// ```
/// use buttress_retry_backoff::{Budget, BudgetRule, Retry, RetryPolicy};
///
/// # fn main() -> Result<(), buttress_retry_backoff::PolicyError> {
/// let budget = Budget::new(BudgetRule::tokens())?; // a fifth of the calls, and 10 a second
/// let read = Retry::new("read", RetryPolicy::default()).with_budget(budget.clone());
/// let list = Retry::new("list", RetryPolicy::default()).with_budget(budget);
/// # let _ = (read, list);
/// # Ok(())
/// # }
/// ```
///
/// A retry that the budget refuses is not made: the call fails with
/// [`Stopped::Budget`](crate::Stopped::Budget) and the error of its last attempt. What was refused
/// has taken nothing.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    /// Which of a call's steps the rule hears of: the lock is not taken for the others.
    hears: Hears,
    clock: Clock,
    rule: BudgetRule,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    state: State,
    /// What the other instances have drawn, when it is of a fleet.
    purse: Option<Purse>,
}

/// All in whole numbers, so "exactly half" is exact.
#[derive(Debug)]
enum State {
    Tokens(Tokens),
    Throttle(Throttle),
    Quota(Quota),
    Share(Share),
}

#[derive(Clone, Copy, Debug)]
struct Hears {
    /// That a call begins.
    begin: bool,
    /// That it succeeded.
    success: bool,
    /// That it is over, one that was dropped without an end aside.
    end: bool,
}

impl State {
    const fn hears(&self) -> Hears {
        let (begin, success, end) = match self {
            Self::Tokens(_) => (true, false, false),
            Self::Throttle(_) | Self::Quota(_) => (false, true, false),
            Self::Share(_) => (true, false, true),
        };
        Hears {
            begin,
            success,
            end,
        }
    }
}

/// What kind of load a failure speaks of: some rules charge more for a retry after one than after
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strain {
    Error,
    Timeout,
    Throttled,
}

impl Budget {
    /// A full budget.
    ///
    /// # Errors
    ///
    /// When the rule cannot work; the ranges are in the table of [`BudgetRule`].
    pub fn new(rule: BudgetRule) -> Result<Self, PolicyError> {
        Self::with_clock(rule, Clock::tokio())
    }

    /// The same with another clock; only the token rule reads it.
    ///
    /// # Errors
    ///
    /// As [`Budget::new`].
    pub fn with_clock(rule: BudgetRule, clock: Clock) -> Result<Self, PolicyError> {
        let state = rule.state()?;
        Ok(Self {
            shared: Arc::new(Shared {
                hears: state.hears(),
                clock,
                rule,
                held: Mutex::new(Held { state, purse: None }),
            }),
        })
    }

    /// How many retries of the cheapest kind it would pay for now.
    #[must_use]
    pub fn available(&self) -> u64 {
        let now = self.shared.clock.now();
        self.shared.held(|Held { state, purse }| match purse {
            Some(purse) => state.available_of(purse, now),
            None => match state {
                State::Tokens(tokens) => tokens.available(now),
                State::Throttle(throttle) => throttle.available(),
                State::Quota(quota) => quota.available(),
                State::Share(share) => share.available(),
            },
        })
    }

    /// The rule it follows.
    #[must_use]
    pub fn rule(&self) -> BudgetRule {
        self.shared.rule
    }

    /// A call begins.
    pub(crate) fn enter(&self) -> Ticket {
        self.shared.enter();
        Ticket::new(Arc::clone(&self.shared))
    }
}

impl Shared {
    /// The rules are ours and do not panic, so a poisoned lock has a whole state in it.
    fn held<T>(&self, act: impl FnOnce(&mut Held) -> T) -> T {
        act(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn locked<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        self.held(|held| act(&mut held.state))
    }

    fn enter(&self) {
        if !self.hears.begin {
            return;
        }
        self.locked(|state| match state {
            State::Tokens(tokens) => tokens.deposit(self.clock.now()),
            State::Share(share) => share.enter(),
            State::Throttle(_) | State::Quota(_) => {}
        });
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared
            .locked(|state| f.debug_tuple("Budget").field(state).finish())
    }
}
