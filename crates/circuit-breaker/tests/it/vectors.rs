//! The cases of other systems' tests and specifications, by their ids: trips.

use std::time::Duration;

use buttress_circuit_breaker::{OpenTime, Policy, PolicyBuilder, Rate, State};

use crate::stand::{MS, SECOND, Stand, ten_seconds};

const CLOSED: State = State::Closed;
const OPEN: State = State::Open;

/// One that counts and never opens.
fn counting(policy: PolicyBuilder) -> Stand {
    let stand = Stand::new(policy.slow_calls(SECOND, Rate::percent(100)));
    stand.breaker.metrics_only();
    stand
}

fn counts(stand: &Stand) -> (u64, u64) {
    let counts = stand.breaker.counts();
    (counts.calls, counts.failed)
}

/// resilience4j's usual configuration in its own tests.
fn r4j() -> PolicyBuilder {
    Policy::builder()
        .time_window_in(20 * SECOND, 20)
        .minimum_calls(5)
        .half_open_permits(4)
        .slow_calls(4 * SECOND, Rate::percent(50))
        .open_time(OpenTime::fixed(5 * SECOND))
}

#[test]
fn b1_1_to_b1_3_below_the_minimum_nothing_is_judged() {
    let stand = Stand::new(ten_seconds().count_window(10).minimum_calls(10));
    assert_eq!(stand.calls("SSFF"), CLOSED);
    assert_eq!(counts(&stand), (4, 2));
    let stand = counting(Policy::builder().count_window(10));
    stand.calls("SSFFFFFFSSSS");
    assert_eq!(counts(&stand), (10, 6));
    stand.calls("SSS");
    assert_eq!(counts(&stand), (10, 3));
}

#[test]
fn b1_4_to_b1_8_the_rate_trips_at_its_threshold_also_on_a_success() {
    let stand = Stand::new(r4j());
    assert_eq!(stand.calls("FFFS"), CLOSED);
    assert_eq!(stand.calls("S"), OPEN);
    assert!(!stand.admits());

    let stand = Stand::new(r4j());
    for result in ["S", "S", "S", "F", "F"] {
        assert_eq!(stand.calls(result), CLOSED);
        stand.hand.advance(SECOND);
    }
    assert_eq!(stand.calls("F"), OPEN);
}

#[test]
fn b1_9_b1_10_slow_calls_trip_and_the_threshold_itself_is_not_slow() {
    for ok in [false, true] {
        let stand = Stand::new(r4j());
        let steps = [(5000, ok), (5000, true), (100, ok), (100, true)];
        for (took, ok) in steps {
            assert_eq!(stand.call_taking(took * MS, ok), CLOSED);
        }
        assert_eq!(stand.breaker.counts().slow, 2);
        assert_eq!(stand.call_taking(5 * SECOND, true), OPEN);
    }
    let stand = Stand::new(r4j());
    stand.call_taking(4 * SECOND, true);
    assert_eq!(stand.breaker.counts().slow, 0);
    stand.call_taking(4 * SECOND + Duration::from_nanos(1), true);
    assert_eq!(stand.breaker.counts().slow, 1);
}

#[test]
fn b2_1_to_b2_5_so_many_of_so_many() {
    let alternating = "SF".repeat(10);
    for (id, of, rate, steps, state) in [
        ("b2_1", 1, Rate::percent(100), "F", OPEN),
        ("b2_2", 3, Rate::percent(100), "FSFF", CLOSED),
        ("b2_2", 3, Rate::percent(100), "FSFFF", OPEN),
        ("b2_3", 3, Rate::of(2, 3), "FSF", OPEN),
        ("b2_4", 4, Rate::of(3, 4), &alternating, CLOSED),
        ("b2_5", 2, Rate::percent(100), &alternating, CLOSED),
    ] {
        let stand = Stand::new(ten_seconds().count_window(of).failure_rate(rate));
        assert_eq!(stand.calls(steps), state, "{id}");
    }
}

#[test]
fn b2_6_a_rate_is_never_rounded_up_to_its_threshold() {
    let stand = Stand::new(ten_seconds().count_window(200).minimum_calls(200));
    let (good, bad) = ("S".repeat(101), "F".repeat(99));
    assert_eq!(stand.calls(&(good + &bad)), CLOSED, "49.5 %");
    assert_eq!(stand.calls("F"), OPEN);
}

fn six_in_a_row() -> PolicyBuilder {
    Policy::builder()
        .no_window()
        .consecutive_failures(6)
        .half_open_permits(1)
        .open_time(OpenTime::fixed(60 * SECOND))
}

#[test]
fn b3_1_to_b3_7_consecutive_failures() {
    let stand = Stand::new(six_in_a_row());
    assert_eq!(stand.calls("FFFFF"), CLOSED);
    assert_eq!(stand.calls("S"), CLOSED);
    assert_eq!(stand.calls("FFFFF"), CLOSED);
    assert_eq!(stand.calls("F"), OPEN);
    assert!(!stand.admits());
    stand.hand.advance(60 * SECOND - MS);
    assert!(!stand.admits());
    // There it is strictly after; here the deadline itself is over.
    stand.hand.advance(MS);
    assert_eq!(stand.calls("F"), OPEN);
    assert_eq!(stand.breaker.retry_after(), Some(60 * SECOND));
    stand.hand.advance(60 * SECOND + Duration::from_nanos(1));
    assert_eq!(stand.calls("S"), CLOSED);
    assert_eq!(stand.calls("FFFFF"), CLOSED, "the row begins anew");
}

#[test]
fn b3_8_b3_11_b3_17_excluded_results_count_as_nothing() {
    let policy = || {
        ten_seconds()
            .count_window(100)
            .minimum_calls(3)
            .failure_rate(Rate::percent(60))
    };
    let stand = Stand::new(policy());
    assert_eq!(stand.calls(&"SFX".repeat(5)), CLOSED);
    assert_eq!(counts(&stand), (10, 5));
    let stand = Stand::new(policy());
    assert_eq!(stand.calls("FSF"), OPEN, "two of three");
    let stand = Stand::new(policy());
    assert_eq!(stand.calls("XXXSSSFF"), CLOSED);
    assert_eq!(counts(&stand), (5, 2));
}

#[test]
fn b3_12_to_b3_14_excluded_probes_free_their_slot() {
    let policy = || ten_seconds().half_open_permits(3).half_open_all_succeed();
    let stand = Stand::half_open(policy());
    assert_eq!(stand.calls("XXXX"), State::HalfOpen);
    assert_eq!(stand.calls("F"), OPEN);
    let stand = Stand::half_open(policy());
    assert_eq!(stand.calls("SS"), State::HalfOpen);
    let third = stand.breaker.try_acquire().unwrap();
    assert!(!stand.admits(), "too many");
    third.success();
    assert_eq!(stand.state(), CLOSED);
    assert_eq!(counts(&stand), (0, 0));
}

#[test]
fn b3_15_a_panic_is_counted_and_goes_on() {
    let stand = Stand::new(ten_seconds());
    let call = || {
        stand
            .breaker
            .call_blocking(|| -> Result<(), ()> { panic!("oops") })
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
    assert_eq!(counts(&stand), (1, 1));
}

#[test]
fn b3_16_a_result_of_an_older_generation_is_dropped() {
    let stand = Stand::new(ten_seconds());
    stand.calls("S");
    let old = stand.breaker.try_acquire().unwrap();
    stand.breaker.close();
    old.success();
    assert_eq!(counts(&stand), (0, 0));
    assert_eq!(stand.breaker.late_results(), 1);
}

#[test]
fn b3_18_what_the_classifier_calls_a_success_is_one() {
    use buttress_core::Verdict;
    let stand = Stand::new(six_in_a_row());
    let always = |_: Result<&(), &&str>| Verdict::success();
    for _ in 0..5 {
        let _ = stand
            .breaker
            .call_blocking_by(&always, || Err::<(), _>("error"));
    }
    assert_eq!(stand.state(), CLOSED);
    for _ in 0..6 {
        let _ = stand.breaker.call_blocking(|| Err::<(), _>("error"));
    }
    assert_eq!(stand.state(), OPEN);
}

#[test]
fn b5_1_to_b5_5_cockatiels_counts() {
    let three = || Stand::new(Policy::builder().no_window().consecutive_failures(3));
    assert_eq!(three().calls("FF"), CLOSED, "b5_1");
    assert_eq!(three().calls("FFF"), OPEN, "b5_1");
    assert_eq!(three().calls("FFSFF"), CLOSED, "b5_1");
    let fifty = || Stand::new(ten_seconds().count_window(100).minimum_calls(50));
    assert_eq!(fifty().calls(&"F".repeat(49)), CLOSED, "b5_2");
    let half = "S".repeat(25) + &"F".repeat(25);
    assert_eq!(
        fifty().calls(&half),
        OPEN,
        "b5_3: there it must be exceeded, here reached"
    );
    let stand = fifty();
    assert_eq!(
        stand.calls(&("S".repeat(24) + &"F".repeat(25))),
        CLOSED,
        "b5_4"
    );
    assert_eq!(stand.calls("F"), OPEN, "b5_4");
    stand.hand.advance(10 * SECOND);
    assert_eq!(stand.calls("SSSSS"), CLOSED, "b5_5");
    assert_eq!(stand.calls("F"), CLOSED, "b5_5");
}

#[test]
fn b5_6_too_few_calls_in_the_time_never_trip() {
    let policy = ten_seconds()
        .time_window_in(5 * SECOND, 5)
        .minimum_calls(15);
    let stand = Stand::new(policy);
    for _ in 0..10 {
        assert_eq!(stand.calls("F"), CLOSED);
        stand.hand.advance(500 * MS);
    }
}

#[test]
fn b6_1_to_b6_5_hystrix() {
    for (id, minimum, steps, state) in [
        ("b6_1", 8, "SSSSFFFF", OPEN),
        ("b6_2", 8, "SSFSFSFF", OPEN),
        ("b6_3", 8, "SSFSSFSF", CLOSED),
        ("b6_4", 4, "FFFF", OPEN),
        ("b6_4", 9, "SSFSFFSFF", OPEN),
        ("b6_5", 5, "FFFF", CLOSED),
    ] {
        let stand = Stand::new(ten_seconds().count_window(20).minimum_calls(minimum));
        assert_eq!(stand.calls(steps), state, "{id} {steps}");
    }
}

#[test]
fn b6_6_to_b6_8_one_probe_and_never_stuck() {
    let policy = || {
        Policy::builder()
            .count_window(4)
            .half_open_permits(1)
            .open_time(OpenTime::fixed(200 * MS))
    };
    let stand = Stand::new(policy());
    assert_eq!(stand.calls("FFFF"), OPEN);
    stand.hand.advance(250 * MS);
    let probe = stand.breaker.try_acquire().unwrap();
    assert!(!stand.admits());
    probe.success();
    assert_eq!((stand.state(), counts(&stand)), (CLOSED, (0, 0)));

    let stand = Stand::new(policy());
    stand.calls("FFFF");
    stand.hand.advance(250 * MS);
    assert_eq!(stand.calls("D"), OPEN, "the cancelled probe opens it again");
    stand.hand.advance(200 * MS);
    assert!(stand.admits());
}

#[test]
fn b7_1_to_b7_3_pollys_worked_examples() {
    let two = |minimum| Stand::new(ten_seconds().time_window(2 * SECOND).minimum_calls(minimum));
    assert_eq!(two(2).calls("SSF"), CLOSED);
    assert_eq!(two(2).calls("SF"), OPEN);
    let stand = two(3);
    let made = (0..10)
        .filter(|_| {
            stand
                .breaker
                .call_blocking(|| Err::<(), _>(()))
                .is_err_and(|error| error.into_failed().is_ok())
        })
        .count();
    assert_eq!(made, 3);
}

#[test]
fn d2_d3_envoys_hosts() {
    let stand = Stand::new(
        ten_seconds()
            .count_window(400)
            .minimum_calls(300)
            .failure_rate(Rate::percent(85)),
    );
    assert_eq!(
        stand.calls(&("S".repeat(50) + &"F".repeat(250))),
        CLOSED,
        "83.3 %"
    );
    let more = (0..50).find(|_| stand.calls("F") == OPEN);
    assert_eq!(
        more,
        Some(33),
        "284 of 334 are 85.03 %, 283 of 333 are 84.98 %"
    );
    let stand = Stand::new(Policy::builder().no_window().consecutive_failures(5));
    assert_eq!(stand.calls("FSFFFF"), CLOSED);
    assert_eq!(stand.calls("F"), OPEN);
}
