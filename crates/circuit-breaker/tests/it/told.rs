//! What observers hear, and what the user's own rules are asked.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_circuit_breaker::{
    Cause, CircuitBreaker, Event, EventKind, MetricsObserver, Opening, State,
};
use buttress_core::{Clock, Outcome};

use crate::stand::{MS, SECOND, ten_seconds};

#[test]
fn observers_hear_each_thing_once_with_its_generation() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let (clock, hand) = Clock::manual();
    let policy = ten_seconds().count_window(2).half_open_permits(1);
    let breaker = CircuitBreaker::builder("payments")
        .policy(policy.build().unwrap())
        .clock(clock)
        .observer(move |event: &Event| ear.lock().unwrap().push((event.generation, event.kind)))
        .observer(MetricsObserver::new())
        .build();
    let late = breaker.try_acquire().unwrap();
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().failure();
    assert!(breaker.try_acquire().is_err());
    late.failure();
    hand.advance(10 * SECOND);
    breaker.try_acquire().unwrap().ignore();
    breaker.try_acquire().unwrap().success();
    drop(breaker.try_acquire().unwrap());
    let told: Vec<_> = heard
        .lock()
        .unwrap()
        .iter()
        .map(|(generation, kind)| {
            let text = match kind {
                EventKind::Moved {
                    from, to, cause, ..
                } => format!("{from} {to} {cause}"),
                EventKind::Rejected { state, shadow, .. } => format!("rejected {state} {shadow}"),
                EventKind::Settled { outcome, slow, .. } => format!("{outcome:?} {slow}"),
                other => format!("{other:?}"),
            };
            (*generation, text)
        })
        .collect();
    let expected = [
        (1, "Success false"),
        (1, "Failure false"),
        (2, "closed open failure_rate"),
        (2, "rejected open false"),
        (1, "Late"),
        (3, "open half_open open_time_over"),
        (3, "Ignored false"),
        (3, "Success false"),
        (4, "half_open closed probes_succeeded"),
        (4, "Abandoned"),
    ];
    assert_eq!(
        told,
        expected.map(|(generation, text)| (generation, text.to_owned()))
    );
    assert!(matches!(Outcome::Ignored, Outcome::Ignored));
}

#[test]
fn a_rule_of_ones_own_opens_it_and_a_panicking_one_does_not() {
    for (panics, state) in [(false, State::Open), (true, State::Closed)] {
        let policy = ten_seconds()
            .count_window(10)
            .minimum_calls(3)
            .no_failure_rate();
        let breaker = CircuitBreaker::builder("b")
            .policy(policy.build().unwrap())
            .trip_when(move |counts| {
                assert!(!panics, "broken rule");
                counts.failed >= 2
            })
            .build();
        for _ in 0..2 {
            breaker.try_acquire().unwrap().failure();
            assert_eq!(
                breaker.state(),
                State::Closed,
                "below the minimum it is not asked"
            );
        }
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.state(), state);
    }
}

#[test]
fn c2_8_a_rule_for_the_open_time_is_told_how_often_it_has_opened_in_a_row() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&asked);
    let (clock, hand) = Clock::manual();
    let policy = ten_seconds().count_window(1).half_open_permits(1);
    let breaker = CircuitBreaker::builder("b")
        .policy(policy.build().unwrap())
        .clock(clock)
        .open_time(move |opening: &Opening| {
            assert_eq!(opening.by_policy, 10 * SECOND);
            ear.lock().unwrap().push((opening.openings, opening.cause));
            42 * 60 * SECOND
        })
        .build();
    let fail = || {
        breaker.try_acquire().unwrap().failure();
        assert_eq!(breaker.retry_after(), Some(42 * 60 * SECOND));
        hand.advance(42 * 60 * SECOND);
    };
    (0..5).for_each(|_| fail());
    breaker.try_acquire().unwrap().success();
    (0..3).for_each(|_| fail());
    let asked = asked.lock().unwrap();
    let openings: Vec<_> = asked.iter().map(|(openings, _)| *openings).collect();
    assert_eq!(openings, [0, 1, 2, 3, 4, 0, 1, 2]);
    assert_eq!(asked[0].1, Cause::FailureRate);
    assert_eq!(asked[1].1, Cause::ProbesFailed);
}

#[test]
fn a_rule_for_the_open_time_that_panics_leaves_it_to_the_policy() {
    let policy = ten_seconds().count_window(1);
    let breaker = CircuitBreaker::builder("b")
        .policy(policy.build().unwrap())
        .clock(Clock::manual().0)
        .open_time(|_| panic!("broken rule"))
        .build();
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.retry_after(), Some(10 * SECOND));
}

#[test]
fn jitter_comes_from_the_chances_that_were_given() {
    for (random, open) in [(0, 4000 * MS), (u64::MAX, 6000 * MS), (1 << 63, 5000 * MS)] {
        let breaker = CircuitBreaker::builder("b")
            .policy(
                buttress_circuit_breaker::Policy::builder()
                    .count_window(1)
                    .build()
                    .unwrap(),
            )
            .clock(Clock::manual().0)
            .random(move || random)
            .build();
        breaker.try_acquire().unwrap().failure();
        assert!(breaker.retry_after().unwrap().abs_diff(open) <= MS);
    }
}

#[test]
fn no_lock_is_held_while_the_users_code_runs() {
    // Each of these looks at the breaker, and would wait for ever for a lock that is held.
    let inner: Arc<Mutex<Option<CircuitBreaker>>> = Arc::default();
    let looks = Arc::new(AtomicU32::new(0));
    let look = {
        let (inner, looks) = (Arc::clone(&inner), Arc::clone(&looks));
        move || {
            let breaker = inner.lock().unwrap().clone();
            let breaker = breaker.unwrap();
            let _ = (breaker.snapshot(), breaker.policy(), breaker.counts());
            drop(breaker.isolate());
            looks.fetch_add(1, Relaxed);
        }
    };
    let (one, two, three) = (look.clone(), look.clone(), look);
    let depth = AtomicU32::new(0);
    let breaker = CircuitBreaker::builder("b")
        .policy(
            ten_seconds()
                .count_window(2)
                .minimum_calls(1)
                .build()
                .unwrap(),
        )
        .trip_when(move |_| {
            one();
            false
        })
        .open_time(move |_| {
            two();
            Duration::from_secs(1)
        })
        .observer(move |_: &Event| {
            // What it does there is told to it as well.
            if depth.fetch_add(1, Relaxed) == 0 {
                three();
            }
        })
        .build();
    *inner.lock().unwrap() = Some(breaker.clone());
    for _ in 0..3 {
        if let Ok(permit) = breaker.try_acquire() {
            permit.failure();
        }
    }
    assert!(looks.load(Relaxed) > 0);
    *inner.lock().unwrap() = None;
}
