//! What a policy refuses, in code and from a file.

use std::time::Duration;

use buttress_retry_backoff::{
    Backoff, BudgetRule, Jitter, RetryAfterRule, RetryPolicy, hedge::HedgeDelay,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn each_field_out_of_range_is_named() {
    let build = RetryPolicy::builder;
    for (builder, field) in [
        (build().attempts(0), "attempts"),
        (build().total_time(Duration::ZERO), "total_time"),
        (build().attempt_timeout(Duration::ZERO), "attempt_timeout"),
        (build().total_time(SECOND).least_time(SECOND), "least_time"),
        (build().longest_wait(Duration::ZERO), "longest_wait"),
        (
            build().backoff(Backoff::linear(SECOND, SECOND).with_jitter(Jitter::Decorrelated)),
            "backoff.jitter",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().starts_with(field), "{error}");
    }
}

#[test]
fn a_file_goes_through_the_same_checks() {
    for (text, words) in [
        (r#"{"attempts":0}"#, "attempts must be from 1"),
        (r#"{"total_time_ms":0}"#, "total_time must be longer than 0"),
        (
            r#"{"backoff":{"shape":{"exponential":{"first_ms":1000,"factor":0.5}}}}"#,
            "backoff.factor must be from 1 to 1000",
        ),
        (r#"{"backoff":{"shape":"custom"}}"#, "backoff.shape must be"),
        (r#"{"atempts":3}"#, "unknown field `atempts`"),
    ] {
        let error = serde_json::from_str::<RetryPolicy>(text).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn what_is_left_out_of_a_file_is_the_default() {
    let read: RetryPolicy = serde_json::from_str("{}").unwrap();
    assert_eq!(read, RetryPolicy::default());
}

#[test]
fn a_policy_is_read_back_as_it_was_written() {
    let policy = RetryPolicy::builder()
        .attempts(9)
        .backoff(
            Backoff::exponential(SECOND)
                .with_jitter(Jitter::DecorrelatedV2)
                .with_cap(SECOND * 9),
        )
        .total_time(SECOND * 60)
        .attempt_timeout(SECOND)
        .least_time(SECOND / 2)
        .retry_after(RetryAfterRule::Clamp { above: SECOND * 5 })
        .keep_errors()
        .build()
        .unwrap();
    let text = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<RetryPolicy>(&text).unwrap(), policy);
}

#[test]
fn durations_in_a_file_are_milliseconds() {
    let text = r#"{
        "attempts": 4,
        "backoff": {"shape": {"linear": {"first_ms": 10, "step_ms": 20}}, "jitter": {"spread_ms": 5}, "cap_ms": 900},
        "total_time_ms": 2000,
        "retry_after": {"clamp": {"above_ms": 5000}}
    }"#;
    let read: RetryPolicy = serde_json::from_str(text).unwrap();
    let millis = Duration::from_millis;
    let backoff = Backoff::linear(millis(10), millis(20))
        .with_jitter(Jitter::Spread(millis(5)))
        .with_cap(millis(900));
    let said = RetryPolicy::builder()
        .attempts(4)
        .backoff(backoff)
        .total_time(SECOND * 2)
        .retry_after(RetryAfterRule::Clamp { above: SECOND * 5 });
    assert_eq!(read, said.build().unwrap());
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(written["total_time_ms"], 2000);
    assert_eq!(written["attempt_timeout_ms"], serde_json::Value::Null);

    let delay = HedgeDelay::After(millis(50));
    let text = serde_json::to_string(&delay).unwrap();
    assert_eq!(text, r#"{"after_ms":50}"#);
    assert_eq!(serde_json::from_str::<HedgeDelay>(&text).unwrap(), delay);
    let text = serde_json::to_string(&BudgetRule::tokens()).unwrap();
    assert!(text.contains(r#""ttl_ms":10000"#), "{text}");
}

#[test]
fn what_would_be_read_back_as_another_time_is_not_written() {
    let half = Backoff::constant(Duration::from_micros(500));
    let error = serde_json::to_string(&half).unwrap_err();
    assert!(error.to_string().contains("milliseconds"), "{error}");
}
