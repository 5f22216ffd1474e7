//! Policies and snapshots as JSON.

use std::time::Duration;

use buttress_circuit_breaker::{
    Abandoned, CircuitBreaker, OpenTime, Policy, Rate, Snapshot, State,
};

#[test]
fn a_policy_is_read_back_as_it_was_written() {
    let second = Duration::from_secs(1);
    for policy in [
        Policy::default(),
        Policy::consecutive_failures(5).unwrap(),
        Policy::builder()
            .time_window_in(30 * second, 6)
            .no_failure_rate()
            .slow_calls(2 * second, Rate::of(2, 3))
            .half_open_all_succeed()
            .half_open_limit(None)
            .half_open_wait(second)
            .open_time(OpenTime::fixed(second))
            .abandoned(Abandoned::Neutral)
            .shadow(true)
            .build()
            .unwrap(),
        Policy::builder()
            .half_open_failure_rate(Rate::percent(10))
            .build()
            .unwrap(),
    ] {
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(
            serde_json::from_str::<Policy>(&text).unwrap(),
            policy,
            "{text}"
        );
    }
}

#[test]
fn what_is_left_out_is_the_default_and_what_cannot_work_is_refused() {
    let read = serde_json::from_str::<Policy>;
    assert_eq!(read("{}").unwrap(), Policy::default());
    let some = read(r#"{"window": {"calls": 10}, "failure_rate": "25%"}"#).unwrap();
    let built = Policy::builder()
        .count_window(10)
        .failure_rate(Rate::percent(25));
    assert_eq!(some, built.build().unwrap());
    for (wrong, says) in [
        (
            r#"{"window": {"calls": 0}}"#,
            "count_window must be from 1 to 10000 calls",
        ),
        (r#"{"failure_rate": "0%"}"#, "failure_rate must be above 0"),
        (
            r#"{"half_open": {"permits": 0}}"#,
            "half_open_permits must be",
        ),
        (r#"{"failure_rates": "50%"}"#, "unknown field"),
    ] {
        let error = read(wrong).unwrap_err().to_string();
        assert!(error.contains(says), "{wrong}: {error}");
    }
}

#[test]
fn a_snapshot_survives_being_written() {
    let breaker = CircuitBreaker::new("b");
    breaker.try_acquire().unwrap().failure();
    breaker.open_for(Duration::from_secs(7));
    let text = serde_json::to_string(&breaker.snapshot()).unwrap();
    let read: Snapshot = serde_json::from_str(&text).unwrap();
    assert_eq!(
        CircuitBreaker::builder("b").restore(read).build().state(),
        State::Open
    );
}
