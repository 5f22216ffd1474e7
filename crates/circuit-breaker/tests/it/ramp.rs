//! The slow way back to letting all calls through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_circuit_breaker::{CircuitBreaker, Permit, Policy, PolicyBuilder, Rate, State};
use buttress_core::Clock;

use crate::stand::{MS, SECOND, Stand, ten_seconds};

fn ramping() -> PolicyBuilder {
    ten_seconds()
        .count_window(100)
        .half_open_permits(1)
        .ramp(10 * SECOND, Rate::percent(20))
}

/// One that its probe has just closed; its chances are spread evenly.
fn healed(policy: PolicyBuilder) -> Stand {
    let (clock, hand) = Clock::manual();
    let next = Arc::new(AtomicU64::new(0));
    let breaker = CircuitBreaker::builder("payments")
        .policy(policy.build().unwrap())
        .clock(clock)
        .random(move || next.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed))
        .build();
    hand.advance(SECOND);
    breaker.open_for(Duration::ZERO);
    breaker.try_acquire().unwrap().success();
    let stand = Stand { breaker, hand };
    assert_eq!(stand.state(), State::Closed);
    stand
}

/// How many of a hundred calls are let through at this moment.
fn admitted(stand: &Stand) -> usize {
    let admitted = (0..100).filter(|_| match stand.breaker.try_acquire() {
        Ok(permit) => {
            permit.success();
            true
        }
        Err(rejection) => {
            assert_eq!(rejection.retry_after(), None, "it is chance");
            false
        }
    });
    admitted.count()
}

#[test]
fn after_its_probes_have_closed_it_the_share_of_calls_grows_evenly_to_all() {
    let stand = healed(ramping());
    for (gone, share) in [(0, 20), (2500, 40), (5000, 60), (7500, 80)] {
        let before = stand.breaker.clock().now();
        let admitted = admitted(&stand);
        assert!(admitted.abs_diff(share) <= 2, "{gone} ms: {admitted}");
        assert_eq!(stand.breaker.clock().now(), before);
        stand.hand.advance(2500 * MS);
    }
    assert_eq!(admitted(&stand), 100);
    let reads = stand.hand.reads();
    assert_eq!(admitted(&stand), 100);
    assert_eq!(
        stand.hand.reads(),
        reads,
        "when it is over no clock is read"
    );
}

#[test]
fn one_that_is_closed_by_hand_lets_all_calls_through_at_once() {
    let stand = healed(ramping());
    assert!(admitted(&stand) < 30);
    stand.breaker.close();
    assert_eq!(admitted(&stand), 100);
    assert_eq!(admitted(&Stand::new(ramping())), 100, "and so a new one");
}

#[test]
fn it_opens_on_the_ramp_as_it_does_after_it() {
    let stand = healed(ramping().minimum_calls(5));
    let failed = (0..100)
        .filter_map(|_| stand.breaker.try_acquire().ok())
        .map(Permit::failure)
        .count();
    assert_eq!((failed, stand.state()), (5, State::Open));
}

#[test]
fn another_policy_ends_a_ramp_or_leaves_it_and_slow_calls_are_measured_afterwards() {
    let slow = |policy: PolicyBuilder| policy.slow_calls(SECOND, Rate::percent(90));
    let stand = healed(ramping());
    let other = slow(ramping()).build().unwrap();
    stand.breaker.set_policy(other).unwrap();
    assert!(admitted(&stand) < 30);
    stand.hand.advance(10 * SECOND);
    stand.call_taking(2 * SECOND, true);
    assert_eq!(stand.breaker.counts().slow, 1);

    let stand = healed(ramping());
    let without = ten_seconds().count_window(100).half_open_permits(1);
    stand.breaker.set_policy(without.build().unwrap()).unwrap();
    assert_eq!(admitted(&stand), 100);
}

#[test]
fn a_call_that_began_before_calls_were_measured_is_not_slow() {
    let stand = Stand::new(ten_seconds());
    stand.hand.advance(SECOND);
    let before = stand.breaker.try_acquire_owned().unwrap();
    let measuring = ten_seconds().slow_calls(MS, Rate::percent(50));
    stand
        .breaker
        .set_policy(measuring.build().unwrap())
        .unwrap();
    stand.hand.advance(SECOND);
    before.success();
    let counts = stand.breaker.counts();
    assert_eq!((counts.calls, counts.slow), (1, 0));
    stand.call_taking(SECOND, true);
    assert_eq!(stand.breaker.counts().slow, 1);
}

#[test]
fn closed_without_slow_calls_or_a_time_window_no_clock_is_read() {
    for policy in [
        ten_seconds().consecutive_failures(5),
        ten_seconds().no_window().consecutive_failures(5),
        Policy::builder().ramp(SECOND, Rate::percent(50)),
    ] {
        let stand = Stand::new(policy);
        let reads = stand.hand.reads();
        stand.calls("SFXDSSFFXXSSSSSSSSSSSS");
        let _ = stand.breaker.call_blocking(|| Err::<(), _>(()));
        assert_eq!(stand.hand.reads(), reads);
    }
    // And the count can fail: a time window reads it once a call, and slow calls once more.
    for (policy, each) in [
        (ten_seconds().time_window(SECOND), 1),
        (ten_seconds().slow_calls(SECOND, Rate::percent(50)), 2),
        (
            ten_seconds()
                .time_window(SECOND)
                .slow_calls(SECOND, Rate::percent(50)),
            2,
        ),
    ] {
        let stand = Stand::new(policy);
        let reads = stand.hand.reads();
        stand.calls("SSSSSSSSSS");
        assert_eq!(stand.hand.reads() - reads, 10 * each);
    }
}
