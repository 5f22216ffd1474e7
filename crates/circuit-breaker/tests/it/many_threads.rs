//! Many threads at once: what must hold at any moment, and what must hold at rest.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use buttress_circuit_breaker::{Abandoned, CircuitBreaker, Event, EventKind, Permit, State};
use buttress_core::Clock;
use buttress_testkit::tier::short_or_long;

use crate::stand::{MS, SECOND, Stand, ten_seconds};

const THREADS: usize = 4;

/// The most probes that were out at once, over so many rounds with threads that all ask together.
fn most_probes_out(
    permits: u32,
    rounds: u32,
    lets_through: impl Fn(&Permit<'_>) -> bool + Sync,
) -> u32 {
    let stand = Stand::new(ten_seconds().half_open_permits(permits));
    let (out, most, meet) = (AtomicU32::new(0), AtomicU32::new(0), Barrier::new(THREADS));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (out, most, meet, stand) = (&out, &most, &meet, &stand);
            let lets_through = &lets_through;
            scope.spawn(move || {
                for _ in 0..rounds {
                    if meet.wait().is_leader() {
                        stand.breaker.open_for(std::time::Duration::ZERO);
                    }
                    meet.wait();
                    for turn in 0..3 {
                        let Ok(permit) = stand.breaker.try_acquire() else {
                            continue;
                        };
                        most.fetch_max(out.fetch_add(1, SeqCst) + 1, SeqCst);
                        if lets_through(&permit) {
                            // Another one may have it already, while this one still counts.
                            permit.ignore();
                            thread::yield_now();
                            out.fetch_sub(1, SeqCst);
                            continue;
                        }
                        thread::yield_now();
                        out.fetch_sub(1, SeqCst);
                        if (turn + thread) % 2 == 0 {
                            permit.ignore();
                        }
                    }
                }
            });
        }
    });
    most.into_inner()
}

#[test]
fn cb2_never_more_probes_than_permits_are_out_on_any_number_of_threads() {
    let tally = buttress_testkit::tally::suite("CB2");
    for permits in [1, 3] {
        let most = most_probes_out(permits, short_or_long(5000, 500_000), |_| false);
        assert!((1..=permits).contains(&most), "{most} of {permits}");
    }
    tally.operations(2 * short_or_long(5000, 500_000));
}

#[test]
fn cb2_a_slot_that_is_given_back_too_early_is_noticed() {
    let tally = buttress_testkit::tally::suite("CB2");
    assert!(most_probes_out(1, 20_000, |_| true) > 1);
    tally.caught(1);
}

#[test]
fn b3_19_no_result_is_lost_among_ten_threads() {
    let stand = Stand::new(ten_seconds().time_window(100 * SECOND));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for at in 0..10_000 {
                    let permit = stand.breaker.try_acquire().unwrap();
                    if at % 2 == 0 {
                        permit.success();
                    } else {
                        permit.ignore();
                    }
                }
            });
        }
    });
    let counts = stand.breaker.counts();
    assert_eq!((counts.calls, counts.failed), (50_000, 0));
}

#[test]
fn a_storm_of_everything_leaves_it_whole_and_no_slot_behind() {
    let tally = buttress_testkit::tally::suite("CB2");
    let (clock, hand) = Clock::manual();
    let moves = std::sync::Arc::new(AtomicU64::new(0));
    let count = std::sync::Arc::clone(&moves);
    let policy = ten_seconds()
        .count_window(10)
        .half_open_permits(2)
        .half_open_limit(None)
        .abandoned(Abandoned::Neutral)
        .open_time(buttress_circuit_breaker::OpenTime::fixed(MS));
    let breaker = CircuitBreaker::builder("storm")
        .policy(policy.build().unwrap())
        .clock(clock)
        .observer(move |event: &Event| {
            if matches!(event.kind, EventKind::Moved { .. }) {
                count.fetch_add(1, SeqCst);
            }
        })
        .build();
    thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (breaker, hand) = (&breaker, &hand);
            scope.spawn(move || {
                let mut chance = u64::from(thread) + 1;
                for _ in 0..20_000 {
                    // An ordinary xorshift.
                    chance ^= chance << 13;
                    chance ^= chance >> 7;
                    chance ^= chance << 17;
                    let Ok(permit) = breaker.try_acquire() else {
                        hand.advance(MS / 4);
                        continue;
                    };
                    match chance % 8 {
                        0..3 => permit.success(),
                        3..6 => permit.failure(),
                        6 => permit.ignore(),
                        _ => drop(permit),
                    }
                    if chance.is_multiple_of(4001) {
                        breaker.close();
                    }
                }
            });
        }
    });
    assert!(moves.load(SeqCst) > 100);
    // At rest: whatever it is, it comes back to closed by successes alone.
    for _ in 0..100 {
        hand.advance(SECOND);
        if let Ok(permit) = breaker.try_acquire() {
            permit.success();
        }
    }
    assert_eq!(breaker.state(), State::Closed, "a slot was lost");
    tally.operations(80_000);
}
