//! The cases of other systems' tests and specifications, by their ids: open, half-open, by hand,
//! and late.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_circuit_breaker::{
    Abandoned, Cause, CircuitBreaker, Event, EventKind, OpenTime, OwnedPermit, Permit, Policy,
    PolicyBuilder, Rate, State,
};
use buttress_core::{Clock, Moment};

use crate::stand::{HOUR, MS, SECOND, Stand, ten_seconds};

const CLOSED: State = State::Closed;
const OPEN: State = State::Open;
const HALF: State = State::HalfOpen;

fn r4j() -> PolicyBuilder {
    Policy::builder()
        .time_window_in(20 * SECOND, 20)
        .minimum_calls(5)
        .half_open_permits(4)
        .slow_calls(4 * SECOND, Rate::percent(50))
        .open_time(OpenTime::fixed(5 * SECOND))
}

/// What it tells its observers of states and thresholds.
fn heard(
    policy: PolicyBuilder,
) -> (
    CircuitBreaker,
    buttress_core::clock::ManualHand,
    Arc<Mutex<Vec<String>>>,
) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let (clock, hand) = Clock::manual();
    let observer = move |event: &Event| {
        let text = match event.kind {
            EventKind::Moved { to, .. } => format!("moved {to}"),
            EventKind::Exceeded { cause, .. } => format!("exceeded {cause}"),
            EventKind::Rejected { .. } => "rejected".to_owned(),
            _ => return,
        };
        ear.lock().unwrap().push(text);
    };
    let breaker = CircuitBreaker::builder("b")
        .policy(policy.build().unwrap())
        .clock(clock)
        .observer(observer)
        .build();
    (breaker, hand, heard)
}

#[test]
fn c1_1_to_c1_3_open_by_hand_for_and_until() {
    let (breaker, hand, heard) = heard(r4j());
    breaker.open();
    hand.advance(3 * SECOND);
    assert!(breaker.try_acquire().is_err() && breaker.try_acquire().is_err());
    hand.advance(3 * SECOND);
    let permit = breaker.try_acquire().unwrap();
    assert_eq!((breaker.state(), breaker.counts().calls), (HALF, 0));
    permit.ignore();
    assert_eq!(
        *heard.lock().unwrap(),
        ["moved open", "rejected", "rejected", "moved half_open"]
    );

    let stand = Stand::new(r4j());
    stand.breaker.open_for(2 * HOUR);
    stand.hand.advance(HOUR);
    assert!(!stand.admits());
    stand.hand.advance(HOUR + SECOND);
    assert!(stand.admits());

    let stand = Stand::new(r4j());
    stand
        .breaker
        .open_until(Moment::START.saturating_add(HOUR / 2));
    stand.hand.advance(HOUR / 6);
    assert!(!stand.admits());
    stand.hand.advance(HOUR / 2);
    assert!(stand.admits());
}

#[test]
fn c1_4_open_times_grow_by_half() {
    let times = OpenTime::growing(5 * SECOND, HOUR)
        .with_growth_percent(150)
        .with_jitter_percent(0);
    let stand = Stand::new(
        Policy::builder()
            .count_window(1)
            .half_open_permits(1)
            .open_time(times),
    );
    assert_eq!(stand.calls("F"), OPEN);
    stand.hand.advance(5 * SECOND);
    assert_eq!(stand.calls("F"), OPEN);
    stand.hand.advance(6 * SECOND);
    assert!(!stand.admits(), "it needs 7.5 s");
    stand.hand.advance(5 * SECOND);
    assert!(stand.admits());
}

#[test]
fn c1_5_to_c1_7_four_permits_and_four_fresh_ones() {
    let stand = Stand::half_open(r4j());
    let take = || stand.breaker.try_acquire_owned();
    let mut permits: Vec<_> = (0..4).map(|_| take().unwrap()).collect();
    assert!(take().is_err());
    permits.pop().unwrap().ignore();
    permits.push(take().unwrap());
    assert!(take().is_err());
    stand.breaker.open();
    stand.hand.advance(5 * SECOND);
    let fresh: Vec<_> = (0..4).map(|_| take().unwrap()).collect();
    assert!(take().is_err());
    drop((permits, fresh));
}

#[test]
fn c1_8_to_c1_12_verdicts_of_four_probes_come_as_soon_as_they_are_certain() {
    for (id, steps, state) in [
        // There after the fourth; here two failures of four are half already.
        ("c1_8", "F", HALF),
        ("c1_8", "FF", OPEN),
        ("c1_9", "FSS", HALF),
        ("c1_9", "FSSS", CLOSED),
        // There the ignored one is waited for; here three successes of four cannot be half failed.
        ("c1_11", "SSX", HALF),
        ("c1_11", "SSXS", CLOSED),
        ("c1_12", "XXXXSS", HALF),
        ("c1_12", "XXXXSSS", CLOSED),
    ] {
        assert_eq!(Stand::half_open(r4j()).calls(steps), state, "{id} {steps}");
    }
    let stand = Stand::half_open(r4j().half_open_limit(None));
    assert_eq!(stand.call_taking(5 * SECOND, true), HALF, "c1_10");
    assert_eq!(stand.call_taking(5 * SECOND, true), OPEN, "c1_10");
    let stand = Stand::half_open(r4j());
    stand.calls("FSSS");
    assert_eq!(stand.breaker.counts().calls, 0, "c1_9: the window is fresh");
}

#[test]
fn c1_13_c1_14_disabled_and_forced_open() {
    let (breaker, hand, heard) = heard(r4j());
    breaker.disable();
    (0..10).for_each(|_| breaker.try_acquire().unwrap().failure());
    assert_eq!(
        (breaker.state(), breaker.counts().calls),
        (State::Disabled, 0)
    );
    breaker.force_open();
    assert!(breaker.try_acquire().is_err());
    hand.advance(6 * SECOND);
    assert!(breaker.try_acquire().is_err());
    let expected = [
        "moved disabled",
        "moved forced_open",
        "rejected",
        "rejected",
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[test]
fn c1_15_to_c1_17_metrics_only_tells_each_threshold_once() {
    let (breaker, hand, heard) = heard(r4j());
    breaker.metrics_only();
    let call = |took: Duration, ok: bool| {
        let permit = breaker.try_acquire().unwrap();
        hand.advance(took);
        if ok {
            permit.success();
        } else {
            permit.failure();
        }
    };
    for ok in [false, false, false, true, true, false] {
        call(Duration::ZERO, ok);
    }
    assert_eq!(breaker.state(), State::MetricsOnly);
    assert_eq!(
        *heard.lock().unwrap(),
        ["moved metrics_only", "exceeded failure_rate"]
    );
    breaker.close();
    assert_eq!((breaker.state(), breaker.counts().calls), (CLOSED, 0));
    breaker.metrics_only();
    heard.lock().unwrap().clear();
    let slow = [0; 5].map(|_| breaker.try_acquire().unwrap());
    hand.advance(5 * SECOND);
    slow.into_iter().for_each(Permit::failure);
    let mut told = heard.lock().unwrap().clone();
    told.sort();
    assert_eq!(told, ["exceeded failure_rate", "exceeded slow_rate"]);
}

#[test]
fn c1_18_a_round_without_a_result_opens_again() {
    let stand = Stand::half_open(r4j().half_open_limit(Some(SECOND)));
    let _hangs = stand.breaker.try_acquire().unwrap();
    stand.hand.advance(2 * SECOND);
    assert!(!stand.admits());
    assert_eq!(stand.state(), OPEN);
}

#[test]
fn c1_19_c1_21_the_same_state_again_is_silent_and_a_breaker_may_begin_in_any() {
    let (breaker, _, heard) = heard(r4j());
    breaker.close();
    breaker.metrics_only();
    breaker.metrics_only();
    assert_eq!(*heard.lock().unwrap(), ["moved metrics_only"]);
    for begin in [CircuitBreaker::open, CircuitBreaker::metrics_only] {
        let first = CircuitBreaker::new("b");
        begin(&first);
        let state = first.state();
        let again = CircuitBreaker::builder("b")
            .restore(first.snapshot())
            .build();
        assert_eq!(again.state(), state);
    }
}

#[test]
fn c2_1_to_c2_4_and_c2_10_pollys_controller() {
    let one = || ten_seconds().half_open_permits(1);
    assert_eq!(Stand::half_open(one()).calls("F"), OPEN, "c2_1");
    assert_eq!(Stand::half_open(one()).calls("S"), CLOSED, "c2_1");
    for ok in [true, false] {
        let stand = Stand::new(one());
        let permit = stand.breaker.try_acquire().unwrap();
        let isolation = stand.breaker.isolate();
        if ok {
            permit.success();
        } else {
            permit.failure();
        }
        assert_eq!(stand.state(), State::Isolated, "c2_3");
        drop(isolation);
    }
    let (breaker, _, heard) = heard(ten_seconds().count_window(1));
    let late = breaker.try_acquire().unwrap();
    breaker.try_acquire().unwrap().failure();
    late.failure();
    assert_eq!(breaker.state(), OPEN, "c2_2");
    assert_eq!(*heard.lock().unwrap(), ["moved open"], "c2_4");
    let stand = Stand::half_open(one());
    let _probe = stand.breaker.try_acquire().unwrap();
    assert!(!stand.admits(), "c2_10");
}

#[test]
fn c2_5_c2_6_c2_9_d4_deadlines() {
    let stand = Stand::new(ten_seconds().count_window(1));
    stand.calls("F");
    stand.hand.advance(MS);
    assert_eq!(stand.breaker.retry_after(), Some(10 * SECOND - MS), "c2_5");
    stand.hand.advance(10 * SECOND - 2 * MS);
    assert!(!stand.admits(), "d4");
    stand.hand.advance(MS);
    assert!(stand.admits(), "c2_9: at the deadline itself");
    stand.breaker.open_for(Duration::MAX);
    stand.hand.advance(1_000_000 * HOUR);
    assert!(!stand.admits(), "c2_6");
}

#[test]
fn c2_7_the_open_time_may_be_said_by_a_rule() {
    let (clock, hand) = Clock::manual();
    let breaker = CircuitBreaker::builder("b")
        .policy(ten_seconds().count_window(1).build().unwrap())
        .clock(clock)
        .open_time(|opening| {
            assert_eq!(opening.cause, Cause::FailureRate);
            42 * 60 * SECOND
        })
        .build();
    breaker.try_acquire().unwrap().failure();
    hand.advance(SECOND);
    assert_eq!(breaker.retry_after(), Some(42 * 60 * SECOND - SECOND));
}

#[test]
fn c3_1_to_c3_17_half_open_thresholds_of_failsafe() {
    // So many successes of n close it: here, n - that + 1 failures of n open it.
    type Row<'a> = (&'a str, u32, Rate, &'a str, &'a str, State);
    let table: [Row<'_>; 18] = [
        ("c3_1", 1, Rate::percent(100), "", "F", OPEN),
        ("c3_1", 1, Rate::percent(100), "", "S", CLOSED),
        ("c3_2", 3, Rate::of(3, 3), "FF", "F", OPEN),
        ("c3_3", 3, Rate::of(3, 3), "F", "S", CLOSED),
        ("c3_4", 3, Rate::of(2, 3), "FS", "F", OPEN),
        ("c3_5", 3, Rate::of(2, 3), "FS", "S", CLOSED),
        ("c3_6", 3, Rate::of(1, 3), "SS", "F", OPEN),
        ("c3_7", 3, Rate::of(1, 3), "SS", "S", CLOSED),
        ("c3_8", 4, Rate::of(2, 4), "SFS", "F", OPEN),
        ("c3_9", 4, Rate::of(2, 4), "SFS", "S", CLOSED),
        ("c3_10", 3, Rate::of(2, 3), "FS", "F", OPEN),
        ("c3_11", 3, Rate::of(2, 3), "FS", "S", CLOSED),
        ("c3_12", 4, Rate::of(3, 4), "SFF", "F", OPEN),
        ("c3_13", 4, Rate::of(2, 4), "SSF", "S", CLOSED),
        ("c3_14", 3, Rate::of(1, 3), "S", "F", OPEN),
        ("c3_15", 3, Rate::of(1, 3), "SS", "S", CLOSED),
        ("c3_16", 3, Rate::of(1, 3), "", "F", OPEN),
        ("c3_17", 2, Rate::of(1, 2), "S", "S", CLOSED),
    ];
    for (id, permits, rate, stays, last, state) in table {
        let stand = Stand::half_open(
            ten_seconds()
                .half_open_permits(permits)
                .half_open_failure_rate(rate),
        );
        assert_eq!(stand.calls(stays), HALF, "{id}");
        assert_eq!(stand.calls(last), state, "{id}");
    }
}

#[test]
fn c3_18_to_c3_20_counts_while_closed_and_half_open() {
    let stand = Stand::new(ten_seconds().count_window(10).minimum_calls(10));
    stand.calls("SFSFSFS");
    let counts = |stand: &Stand| (stand.breaker.counts().calls, stand.breaker.counts().failed);
    assert_eq!(counts(&stand), (7, 3));
    stand.calls("FSSSFSSSFSSSFSS");
    assert_eq!(counts(&stand), (10, 2));
    let stand = Stand::half_open(ten_seconds().half_open_permits(20));
    stand.calls("FSSFSSFSSFSSFSS");
    assert_eq!(counts(&stand), (15, 5));
}

#[test]
fn c5_1_to_c5_3_a_call_from_before_decides_nothing_cb4() {
    for ok in [true, false] {
        let stand = Stand::new(ten_seconds().count_window(1).half_open_permits(2));
        let late = [0; 3].map(|_| Some(stand.breaker.try_acquire_owned().unwrap()));
        let mut late = late.into_iter().flatten();
        let mut settle = || {
            let permit = late.next().unwrap();
            if ok {
                permit.success();
            } else {
                permit.failure();
            }
        };
        stand.calls("F");
        settle();
        assert_eq!(stand.state(), OPEN, "c5_1");
        stand.hand.advance(10 * SECOND);
        let probe = stand.breaker.try_acquire().unwrap();
        settle();
        assert_eq!(
            (stand.state(), stand.breaker.counts().calls),
            (HALF, 0),
            "c5_2, c5_3"
        );
        probe.success();
        stand.calls("S");
        assert_eq!(stand.state(), CLOSED);
        settle();
        assert_eq!((stand.state(), stand.breaker.counts().calls), (CLOSED, 0));
        assert_eq!(stand.breaker.late_results(), 3);
    }
}

#[test]
fn c5_4_c5_8_a_dropped_probe_gives_its_slot_back_and_never_closes() {
    for (permits, abandoned, state) in [
        (2, Abandoned::FailureWhenMost, HALF),
        (1, Abandoned::Neutral, HALF),
        (1, Abandoned::FailureWhenMost, OPEN),
        (1, Abandoned::Failure, OPEN),
    ] {
        let stand = Stand::half_open(
            ten_seconds()
                .half_open_permits(permits)
                .abandoned(abandoned),
        );
        assert_eq!(stand.calls("D"), state);
        assert_eq!(stand.admits(), state == HALF);
    }
}

#[test]
fn c5_5_to_c5_7_c5_9_slots_are_given_back_once_and_only_by_their_own_round() {
    let policy = || ten_seconds().count_window(1).half_open_permits(3);
    let stand = Stand::new(policy());
    let from_before = stand.breaker.try_acquire_owned().unwrap();
    stand.calls("F");
    stand.hand.advance(10 * SECOND);
    let take = || stand.breaker.try_acquire_owned();
    let mut probes = vec![take().unwrap(), take().unwrap(), take().unwrap()];
    from_before.ignore();
    assert!(take().is_err(), "c5_6");
    probes.pop().unwrap().ignore();
    probes.push(take().unwrap());
    assert!(take().is_err(), "c5_9");
    // c5_7: a permit is consumed by what it says, so it cannot say it twice.
    stand.hand.advance(60 * SECOND);
    assert!(take().is_err());
    assert_eq!(stand.state(), OPEN, "c5_5");
    stand.hand.advance(10 * SECOND);
    let fresh = [take().unwrap(), take().unwrap(), take().unwrap()];
    probes.into_iter().for_each(OwnedPermit::success);
    assert!(take().is_err(), "c5_5: the lost ones give nothing back");
    assert_eq!(stand.state(), HALF);
    drop(fresh);
}
