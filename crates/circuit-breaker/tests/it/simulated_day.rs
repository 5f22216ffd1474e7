//! A day with a dependency that comes and goes, in the time of a test.

use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreaker, OpenTime, Policy, State};
use buttress_core::{Clock, Outcome, Verdict};
use buttress_testkit::tier::short_or_long;
use proptest::{strategy::Strategy as _, strategy::ValueTree as _, test_runner::TestRunner};

use crate::stand::{MS, SECOND};

/// One call each 100 ms for 24 hours, with outages at random: how many calls reached the
/// dependency while it was down and the breaker had opened, and the longest outages of the breaker
/// after the dependency was well again.
#[test]
fn cb6_calls_that_reach_a_dead_dependency_are_the_probes_and_it_closes_soon_after_healing() {
    let tally = buttress_testkit::tally::suite("CB6");
    let mut runner = TestRunner::deterministic();
    for seed in 0..short_or_long(20, 1000_u64) {
        let outages =
            proptest::collection::vec((60_000..3_600_000_u64, 1_000..600_000_u64), 24..48)
                .new_tree(&mut runner)
                .unwrap()
                .current();
        let (clock, hand) = Clock::manual();
        let cap = 60 * SECOND;
        let policy = Policy::builder()
            .count_window(20)
            .minimum_calls(10)
            .half_open_permits(3)
            .open_time(OpenTime::growing(SECOND, cap));
        let breaker = CircuitBreaker::builder("flapping")
            .policy(policy.build().unwrap())
            .clock(clock)
            .random(move || seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .build();
        let one = 100 * MS;
        for (well, down) in outages {
            let mut waited = Duration::ZERO;
            for _ in 0..well / 100 {
                hand.advance(one);
                if let Ok(permit) = breaker.try_acquire() {
                    permit.success();
                }
                if breaker.state() != State::Closed {
                    waited += one;
                }
            }
            assert!(
                waited <= cap + 3 * one,
                "closed {waited:?} after healing (seed {seed})"
            );
            let (mut made, mut rounds) = (0, 0);
            let mut last = breaker.openings();
            for _ in 0..down / 100 {
                hand.advance(one);
                if let Ok(permit) = breaker.try_acquire() {
                    permit.record(Verdict::unknown());
                    made += u32::from(last > 0);
                }
                rounds += u32::from(breaker.openings() > last && last > 0);
                last = breaker.openings();
            }
            // Two of three failed probes decide a round; one round may be under way.
            assert!(
                made <= 2 * rounds + 2,
                "{made} calls in {rounds} rounds (seed {seed})"
            );
        }
    }
    assert_eq!(Verdict::unknown().outcome(), Outcome::Failure);
    tally.operations(short_or_long(20, 1000_u64));
}
