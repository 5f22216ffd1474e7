//! What one call has taken from a budget, given back however the call ends.

use std::{fmt, sync::Arc};

use super::{Held, Shared, State, Strain};

/// One call's account.
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    /// Retries that are counted as under way.
    under_way: u32,
    /// What the last retry has borrowed.
    borrowed: u32,
    /// It is known how the call ended; one that was dropped brings back what it borrowed.
    ended: bool,
}

impl Ticket {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            under_way: 0,
            borrowed: 0,
            ended: false,
        }
    }

    /// An attempt failed, and not for good.
    pub(crate) fn failed(&mut self) {
        let under_way = std::mem::take(&mut self.under_way);
        self.shared.locked(|state| match state {
            State::Throttle(throttle) => throttle.failed(),
            State::Share(share) => share.give_back(under_way),
            State::Tokens(_) | State::Quota(_) => {}
        });
    }

    /// One of several attempts at once failed, and not for good: the others are under way.
    pub(crate) fn failed_beside(&mut self) {
        self.shared.locked(|state| {
            if let State::Throttle(throttle) = state {
                throttle.failed();
            }
        });
    }

    /// Whether there may be a further attempt; if so it is paid.
    pub(crate) fn withdraw(&mut self, strain: Strain) -> bool {
        let Self {
            shared,
            under_way,
            borrowed,
            ..
        } = self;
        shared.held(|Held { state, purse }| {
            let whole = match purse {
                // Of a fleet's budget the others have their part.
                Some(purse) if !state.fits(purse, strain, || shared.clock.now()) => return false,
                Some(_) => false,
                None => true,
            };
            match state {
                State::Tokens(tokens) if whole => tokens.withdraw(shared.clock.now()),
                State::Tokens(tokens) => tokens.take(shared.clock.now()),
                State::Throttle(throttle) => !whole || throttle.allows(),
                State::Quota(quota) => {
                    let cost = quota.withdraw(strain);
                    *borrowed = cost.unwrap_or(*borrowed);
                    cost.is_some()
                }
                State::Share(share) => {
                    let allowed = if whole {
                        share.withdraw()
                    } else {
                        share.take()
                    };
                    *under_way += u32::from(allowed);
                    allowed
                }
            }
        })
    }

    /// The call succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.ended = true;
        let borrowed = std::mem::take(&mut self.borrowed);
        if !self.shared.hears.success {
            return;
        }
        self.shared.locked(|state| match state {
            State::Throttle(throttle) => throttle.succeeded(),
            // A call without a retry brings one back, so a healthy service fills it up again.
            State::Quota(quota) => quota.bring_back(borrowed.max(1)),
            State::Tokens(_) | State::Share(_) => {}
        });
    }

    /// The call failed.
    pub(crate) const fn gave_up(&mut self) {
        self.ended = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.ended && !self.shared.hears.end {
            return;
        }
        self.shared.locked(|state| match state {
            State::Quota(quota) if !self.ended => quota.bring_back(self.borrowed),
            State::Share(share) => {
                share.give_back(self.under_way);
                share.leave();
            }
            _ => {}
        });
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("under_way", &self.under_way)
            .field("borrowed", &self.borrowed)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, BudgetRule};

    fn left(budget: &Budget) -> u32 {
        budget.shared.locked(|state| match state {
            State::Quota(quota) => quota.left(),
            other => panic!("no quota: {other:?}"),
        })
    }

    fn quota(capacity: u32, error: u32, timeout: u32, throttled: u32) -> Budget {
        Budget::new(BudgetRule::Quota {
            capacity,
            error,
            timeout,
            throttled,
        })
        .unwrap()
    }

    #[test]
    fn g1_1_a_timeout_costs_twice_as_much() {
        let budget = quota(500, 5, 10, 5);
        let (mut one, mut other) = (budget.enter(), budget.enter());
        assert!(one.withdraw(Strain::Error));
        assert_eq!(left(&budget), 495);
        one.succeeded();
        assert!(other.withdraw(Strain::Timeout));
        assert_eq!(left(&budget), 490);
    }

    #[test]
    fn g1_2_a_success_brings_back_the_last_cost_only() {
        let budget = quota(500, 5, 10, 5);
        let mut call = budget.enter();
        assert!(call.withdraw(Strain::Error));
        assert!(call.withdraw(Strain::Error));
        assert_eq!(left(&budget), 490);
        call.succeeded();
        drop(call);
        assert_eq!(left(&budget), 495);
    }

    #[test]
    fn g1_3_and_g1_8_a_call_that_failed_brings_nothing_back() {
        let budget = quota(500, 5, 10, 5);
        let mut call = budget.enter();
        assert!(call.withdraw(Strain::Error) && call.withdraw(Strain::Error));
        call.gave_up();
        drop(call);
        assert_eq!(left(&budget), 490);
    }

    #[test]
    fn g1_4_what_was_refused_has_taken_nothing() {
        let budget = quota(5, 5, 5, 5);
        let mut call = budget.enter();
        assert!(call.withdraw(Strain::Error));
        assert_eq!(left(&budget), 0);
        assert!(!call.withdraw(Strain::Error));
        assert_eq!(left(&budget), 0);
    }

    #[test]
    fn g1_5_the_cost_of_timeouts() {
        let budget = quota(100, 5, 10, 5);
        let mut call = budget.enter();
        assert!(call.withdraw(Strain::Timeout));
        assert_eq!(left(&budget), 90);
        assert!(call.withdraw(Strain::Timeout));
        assert_eq!(left(&budget), 80);
        call.succeeded();
        assert_eq!(left(&budget), 90);
    }

    #[test]
    fn g1_6_and_g1_7_the_newer_costs() {
        let budget = Budget::new(BudgetRule::quota()).unwrap();
        let mut call = budget.enter();
        assert!(call.withdraw(Strain::Error));
        assert_eq!(left(&budget), 486);
        budget.enter().succeeded();
        assert_eq!(left(&budget), 487);
        budget.enter().gave_up();
        assert_eq!(left(&budget), 487);
        call.succeeded();
        assert_eq!(left(&budget), 500);
        let mut throttled = budget.enter();
        assert!(throttled.withdraw(Strain::Throttled));
        assert_eq!(left(&budget), 495);
        let small = quota(14, 14, 14, 5);
        let mut call = small.enter();
        assert!(call.withdraw(Strain::Error) && !call.withdraw(Strain::Error));
    }

    #[test]
    fn a_call_that_is_dropped_gives_back_what_it_holds() {
        let budget = quota(500, 5, 10, 5);
        let mut call = budget.enter();
        assert!(call.withdraw(Strain::Error));
        drop(call);
        assert_eq!(left(&budget), 500);
        let budget = Budget::new(BudgetRule::share()).unwrap();
        let mut calls: Vec<_> = (0..4).map(|_| budget.enter()).collect();
        let allowed = calls
            .iter_mut()
            .filter_map(|it| it.withdraw(Strain::Error).then_some(()));
        assert_eq!(allowed.count(), 3);
        calls[0].failed();
        assert!(calls[3].withdraw(Strain::Error));
        drop(calls);
        budget.shared.locked(|state| match state {
            State::Share(share) => assert!(share.is_idle(), "{share:?}"),
            other => panic!("no share: {other:?}"),
        });
    }
}
