//! What the tests stand on: limiters on a clock that they move.

use std::time::Duration;

use buttress_core::{Clock, clock::ManualHand};
use buttress_rate_limiter::{Bandwidth, Decision, Quota, RateLimiter};

pub(crate) struct Stand {
    pub(crate) limiter: RateLimiter,
    pub(crate) hand: ManualHand,
    pub(crate) clock: Clock,
}

impl Stand {
    /// Of bandwidths, each with so many permits at the start; built at `start` nanoseconds.
    pub(crate) fn at(start: u64, quota: Quota, initial: Option<u64>) -> Self {
        let (clock, hand) = Clock::manual();
        hand.advance(Duration::from_nanos(start));
        let builder = RateLimiter::builder("stand", quota).clock(clock.clone());
        let builder = match initial {
            Some(permits) => builder.initial(permits),
            None => builder,
        };
        let limiter = builder.build().unwrap();
        Self {
            limiter,
            hand,
            clock,
        }
    }

    pub(crate) fn new(bandwidth: Bandwidth) -> Self {
        Self::at(0, Quota::new(bandwidth).unwrap(), None)
    }

    pub(crate) fn ns(&self, nanos: u64) {
        self.hand.advance(Duration::from_nanos(nanos));
    }

    pub(crate) fn ms(&self, millis: u64) {
        self.hand.advance(Duration::from_millis(millis));
    }

    /// Moves the clock to a time since its start.
    pub(crate) fn to(&self, at: Duration) {
        let now = Duration::from_nanos(self.clock.now().as_nanos());
        self.hand.advance(at.checked_sub(now).unwrap());
    }

    pub(crate) fn left(&self) -> u64 {
        self.limiter.peek_n(0).remaining()
    }

    /// After how long so many could be had.
    pub(crate) fn wait(&self, permits: u64) -> Duration {
        wait(&self.limiter.peek_n(permits))
    }
}

pub(crate) fn wait(decision: &Decision) -> Duration {
    assert!(!decision.can_never(), "{decision:?}");
    decision.retry_after().unwrap_or_default()
}

pub(crate) const fn nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}
