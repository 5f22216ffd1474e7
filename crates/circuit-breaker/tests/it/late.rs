//! Results that come after the state has changed.

use buttress_circuit_breaker::{Abandoned, CircuitBreaker, OwnedPermit, Permit, Policy, State};
use buttress_core::Clock;
use buttress_testkit::{seed::Seed, tier::short_or_long};
use rand::{Rng as _, RngExt as _, rngs::StdRng};

use crate::stand::{MS, SECOND, ten_seconds};

/// Something that changes the state, or at least the generation.
fn turn(breaker: &CircuitBreaker, rng: &mut StdRng) {
    match rng.next_u32() % 6 {
        0 => breaker.open_for(MS),
        1 => breaker.force_open(),
        2 => breaker.disable(),
        3 => breaker.metrics_only(),
        4 => {
            breaker.open_for(std::time::Duration::ZERO);
            // The next call begins a round; it is kept out of the way.
            breaker.try_acquire().map(Permit::ignore).unwrap();
        }
        _ => breaker.close(),
    }
}

fn settle(permit: OwnedPermit, rng: &mut StdRng) {
    match rng.next_u32() % 4 {
        0 => permit.success(),
        1 => permit.failure(),
        2 => permit.ignore(),
        _ => drop(permit),
    }
}

#[test]
fn cb4_a_late_result_changes_nothing_whatever_lies_between() {
    let tally = buttress_testkit::tally::suite("CB4");
    for seed in 0..short_or_long(10_000, 100_000) {
        let mut rng = Seed::from(seed).rng();
        let (clock, hand) = Clock::manual();
        let policy = match seed % 3 {
            0 => ten_seconds().count_window(3),
            1 => ten_seconds().time_window(SECOND).minimum_calls(2),
            _ => Policy::builder().no_window().consecutive_failures(2),
        };
        let policy = policy.half_open_permits(2).abandoned(Abandoned::Failure);
        let breaker = CircuitBreaker::builder("late")
            .policy(policy.build().unwrap())
            .clock(clock)
            .build();
        if rng.random() {
            breaker.open_for(std::time::Duration::ZERO);
        }
        let late: Vec<_> = (0..2)
            .filter_map(|_| breaker.try_acquire_owned().ok())
            .collect();
        for _ in 0..rng.random_range(1..4) {
            turn(&breaker, &mut rng);
            hand.advance(MS / 4);
        }
        // What lives now has results of its own.
        if let Ok(permit) = breaker.try_acquire_owned() {
            settle(permit, &mut rng);
        }
        let before = (breaker.snapshot(), breaker.late_results());
        let count = late.len() as u64;
        late.into_iter().for_each(|permit| settle(permit, &mut rng));
        let after = (breaker.snapshot(), breaker.late_results());
        assert_eq!(after, (before.0, before.1 + count), "seed {seed}");
        if breaker.state() == State::HalfOpen {
            // Two probes, or what is left of them, and no more.
            let free = (0..4).filter_map(|_| breaker.try_acquire().ok()).count();
            assert!(free <= 2, "seed {seed}");
        }
    }
    tally.operations(short_or_long(10_000, 100_000));
}
