//! States by hand, and what is kept over a change and a restart.

use std::sync::Arc;

use buttress_circuit_breaker::{CircuitBreaker, Policy, PolicyError, Rate, State};
use buttress_core::{Clock, Registry};

use crate::stand::{HOUR, MS, SECOND, Stand, ten_seconds};

#[test]
fn every_state_by_hand_admits_as_it_says_and_ends_by_close() {
    type Tell = fn(&CircuitBreaker);
    let table: [(Tell, State, bool); 5] = [
        (CircuitBreaker::force_open, State::ForcedOpen, false),
        (CircuitBreaker::disable, State::Disabled, true),
        (CircuitBreaker::metrics_only, State::MetricsOnly, true),
        (CircuitBreaker::open, State::Open, false),
        (CircuitBreaker::close, State::Closed, true),
    ];
    for (tell, state, admits) in table {
        let stand = Stand::new(ten_seconds());
        tell(&stand.breaker);
        assert_eq!((stand.state(), stand.admits()), (state, admits));
        stand.breaker.close();
        assert_eq!(stand.state(), State::Closed);
    }
}

#[test]
fn open_by_hand_lasts_as_the_policy_says_without_its_jitter() {
    let breaker = CircuitBreaker::builder("b")
        .clock(Clock::manual().0)
        .build();
    breaker.open();
    let lasts = breaker.retry_after().unwrap();
    assert!((5 * SECOND).abs_diff(lasts) <= MS, "{lasts:?}");
}

#[test]
fn isolation_is_held_by_all_who_hold_it_and_gives_back_what_was_before() {
    let stand = Stand::new(ten_seconds().count_window(2));
    let (one, two) = (stand.breaker.isolate(), stand.breaker.isolate());
    assert!(!stand.admits());
    drop(one);
    assert_eq!(stand.state(), State::Isolated);
    drop(two);
    assert_eq!(stand.state(), State::Closed);
    stand.calls("FF");
    let isolation = stand.breaker.isolate();
    stand.hand.advance(4 * SECOND);
    drop(isolation);
    assert_eq!(stand.state(), State::Open);
    assert_eq!(stand.breaker.retry_after(), Some(6 * SECOND));
    // What is asked for meanwhile takes effect afterwards.
    let isolation = stand.breaker.isolate();
    stand.breaker.close();
    assert_eq!(stand.state(), State::Isolated);
    drop(isolation);
    assert_eq!(stand.state(), State::Closed);
}

#[test]
fn a_snapshot_restores_state_openings_and_the_time_that_was_left() {
    let stand = Stand::new(ten_seconds().count_window(2));
    stand.calls("FF");
    stand.hand.advance(4 * SECOND);
    let snapshot = stand.breaker.snapshot();
    let (clock, hand) = Clock::manual();
    hand.advance(HOUR);
    let restored = CircuitBreaker::builder("payments")
        .clock(clock)
        .restore(snapshot)
        .build();
    assert_eq!((restored.state(), restored.openings()), (State::Open, 1));
    assert_eq!(restored.retry_after(), Some(6 * SECOND));

    type Tell = fn(&CircuitBreaker);
    let table: [(Tell, State); 5] = [
        (CircuitBreaker::force_open, State::ForcedOpen),
        (CircuitBreaker::disable, State::Disabled),
        (CircuitBreaker::metrics_only, State::MetricsOnly),
        (CircuitBreaker::close, State::Closed),
        (
            |breaker| {
                breaker.open_for(std::time::Duration::ZERO);
                breaker.try_acquire().unwrap().ignore();
            },
            State::Open,
        ),
    ];
    for (tell, state) in table {
        tell(&stand.breaker);
        let again = CircuitBreaker::builder("b")
            .restore(stand.breaker.snapshot())
            .build();
        assert_eq!(again.state(), state);
    }
    let _isolation = stand.breaker.isolate();
    stand.breaker.force_open();
    assert_eq!(
        stand.breaker.snapshot().state,
        State::ForcedOpen,
        "what is beneath"
    );
}

#[test]
fn another_policy_takes_effect_at_once_and_keeps_what_was_counted() {
    let half = || ten_seconds().count_window(10).minimum_calls(10);
    let stand = Stand::new(half());
    stand.calls("SSSSSSSFFF");
    let stricter = half().failure_rate(Rate::percent(30)).build().unwrap();
    stand.breaker.set_policy(stricter.clone()).unwrap();
    assert_eq!(
        (stand.state(), stand.breaker.counts().failed),
        (State::Closed, 3)
    );
    assert_eq!(stand.calls("SF"), State::Open);
    assert_eq!(stand.breaker.policy(), stricter);
    let other = half().count_window(11).build().unwrap();
    let refused = stand.breaker.set_policy(other).unwrap_err();
    assert_eq!(refused.field(), "window");
}

#[test]
fn a_round_under_way_begins_anew_with_new_rules() {
    let stand = Stand::half_open(ten_seconds().half_open_permits(3));
    let old = stand.breaker.try_acquire_owned().unwrap();
    let fewer = ten_seconds().half_open_permits(1).build().unwrap();
    stand.breaker.set_policy(fewer).unwrap();
    let _probe = stand.breaker.try_acquire().unwrap();
    assert!(!stand.admits(), "one probe, as the new policy says");
    old.success();
    assert_eq!(stand.state(), State::HalfOpen);
}

#[test]
fn in_shadow_all_calls_are_made_and_the_states_are_gone_through() -> Result<(), PolicyError> {
    let stand = Stand::new(
        ten_seconds()
            .count_window(2)
            .half_open_permits(1)
            .shadow(true),
    );
    assert_eq!(stand.calls("FF"), State::Open);
    assert_eq!(
        stand.calls("SSFF"),
        State::Open,
        "let through, and not counted"
    );
    stand.hand.advance(10 * SECOND);
    assert_eq!(stand.calls("S"), State::Closed);
    let policy = Policy::builder().count_window(2).half_open_permits(1);
    stand.breaker.set_policy(policy.build()?)?;
    stand.calls("FF");
    assert!(!stand.admits());
    Ok(())
}

#[test]
fn a_registry_lists_it_with_its_gauges_as_long_as_it_lives() {
    let registry = Registry::new();
    let breaker = CircuitBreaker::builder("payments")
        .registry(&registry)
        .build();
    breaker.try_acquire().unwrap().failure();
    breaker.force_open();
    breaker.close();
    breaker.try_acquire().unwrap().failure();
    let [entry] = &registry.entries()[..] else {
        panic!("one entry")
    };
    assert_eq!(
        (entry.pattern(), entry.name(), entry.state()),
        ("circuit_breaker", "payments", "closed")
    );
    let mut gauges = std::collections::HashMap::new();
    entry.gauges(&mut |name, value| {
        gauges.insert(name, value);
    });
    assert_eq!(gauges["buttress_circuit_breaker_window_failed"], 1);
    assert_eq!(gauges["buttress_circuit_breaker_open"], 0);
    let _ = Arc::clone(entry);
    drop(breaker);
}
