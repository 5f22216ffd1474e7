//! A breaker whose clock the test moves.

use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreaker, OpenTime, Permit, Policy, PolicyBuilder, State};
use buttress_core::{Clock, clock::ManualHand};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Stand {
    pub(crate) breaker: CircuitBreaker,
    pub(crate) hand: ManualHand,
}

/// A policy that opens for 10 s, always.
pub(crate) fn ten_seconds() -> PolicyBuilder {
    Policy::builder().open_time(OpenTime::fixed(10 * SECOND))
}

impl Stand {
    pub(crate) fn new(policy: PolicyBuilder) -> Self {
        let (clock, hand) = Clock::manual();
        let breaker = CircuitBreaker::builder("payments")
            .policy(policy.build().unwrap())
            .clock(clock)
            .build();
        Self { breaker, hand }
    }

    /// One that is half-open, with no probe out.
    pub(crate) fn half_open(policy: PolicyBuilder) -> Self {
        let stand = Self::new(policy);
        stand.breaker.open_for(Duration::ZERO);
        stand.breaker.try_acquire().unwrap().ignore();
        assert_eq!(stand.state(), State::HalfOpen);
        stand
    }

    pub(crate) fn state(&self) -> State {
        self.breaker.state()
    }

    /// Calls that take no time: `S`, `F`, `X` for ignored, `D` for dropped. A call that is
    /// rejected fails the test.
    pub(crate) fn calls(&self, results: &str) -> State {
        for result in results.chars() {
            let permit = self.breaker.try_acquire().unwrap_or_else(|rejection| {
                panic!("{result} of {results}: {rejection}");
            });
            match result {
                'S' => permit.success(),
                'F' => permit.failure(),
                'X' => permit.ignore(),
                'D' => drop(permit),
                _ => panic!("{result} is no result"),
            }
        }
        self.state()
    }

    /// A call that takes so long.
    pub(crate) fn call_taking(&self, took: Duration, ok: bool) -> State {
        let permit = self.breaker.try_acquire().unwrap();
        self.hand.advance(took);
        if ok {
            permit.success();
        } else {
            permit.failure();
        }
        self.state()
    }

    pub(crate) fn admits(&self) -> bool {
        // Given back as if it had never been.
        self.breaker.try_acquire().map(Permit::ignore).is_ok()
    }
}
