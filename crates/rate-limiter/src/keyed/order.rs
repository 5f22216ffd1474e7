//! Calls for a key that are judged in another order than they read the clock.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{cell::Cell as Count, hash::RandomState, sync::Arc};

use super::{
    sets::Sets,
    state::{Cells, Limited, Word},
    table::{Between, Hashing, Table},
};
use crate::{
    Algorithm, Bandwidth, Quota,
    machine::{Bucket, Penalty, PenaltyRule, Plan},
};

const DAY: u64 = 86_400_000_000_000;
const NOW: u64 = DAY + DAY / 2;

fn plan(bandwidth: Bandwidth) -> Plan {
    Plan::in_process(&Quota::new(bandwidth).unwrap()).unwrap()
}

fn hashing() -> Hashing {
    Hashing::Hostile(RandomState::new())
}

fn take<S: Limited>(table: &Table<u64, S>, at: u64) -> bool {
    let visit = table.visit(
        &7,
        || (at, at),
        |rules, state, at| state.take(rules, at.0, 1),
    );
    visit.result.allowed
}

/// Fills the key yesterday, then takes what is there now: the last one by a clock that was read before
/// the others'.
fn lacks_nothing<S: Limited>(rules: &S::Rules, name: &str, now: u64) {
    let table = Table::<u64, S>::new(rules, 100, hashing());
    while take(&table, DAY - 1) {}
    let free = |at| {
        let look = |n| {
            table.peek(
                &7,
                || at,
                |rules, state, at| state.look(rules, at, n).allowed,
            )
        };
        (1..).take_while(|n| look(*n)).count()
    };
    let free = free(now);
    assert!(free >= 2, "{name}");
    for _ in 1..free {
        assert!(take(&table, now), "{name}");
    }
    assert!(take(&table, now - 1_000_000), "{name}: the last one");
    assert!(!take(&table, now - 1_000_000), "{name}");
    assert!(!take(&table, now), "{name}");
}

#[test]
fn who_read_the_clock_first_and_is_judged_last_lacks_nothing_of_his_key() {
    let greedy = Bandwidth::per_day(8);
    for (name, bandwidth) in [
        ("bucket", greedy),
        ("interval", greedy.by_interval()),
        ("window", greedy.fixed_window()),
    ] {
        let plan = plan(bandwidth);
        let bucket = Arc::new(*plan.single_bucket().unwrap());
        lacks_nothing::<Word>(&bucket, name, NOW);
    }
    for (name, bandwidth) in [
        ("cells of a bucket", greedy),
        ("sliding window", greedy.sliding_window()),
        ("sliding log", greedy.sliding_log()),
    ] {
        // Of a log yesterday's are all there again from then on, and not before.
        let is_log = bandwidth.counted_by() == Algorithm::SlidingLog;
        let now = if is_log { 2 * DAY - 1 } else { NOW };
        lacks_nothing::<Cells>(&Arc::new(plan(bandwidth)), name, now);
    }
}

/// As it is when he has waited for the lock while the window ended and others took of the next one.
#[test]
fn who_read_the_clock_in_the_window_before_is_judged_in_the_one_that_others_have_begun() {
    let plan = plan(Bandwidth::per_day(2).fixed_window());
    let bucket = Arc::new(*plan.single_bucket().unwrap());
    let table = Table::<u64, Word>::new(&bucket, 100, hashing());
    assert!(take(&table, DAY));
    assert!(take(&table, DAY - 1));
    assert!(!take(&table, DAY));
}

#[test]
fn a_coarse_time_is_no_earlier_than_an_exact_one_that_was_seen() {
    let plan = plan(Bandwidth::per_second(10).burst(2));
    let bucket = Arc::new(*plan.single_bucket().unwrap());
    let table = Table::<u64, Word>::new(&bucket, 100, hashing());
    let judge = |at: Between, exact: u64| {
        let visit = table.visit(
            &7,
            || at,
            |bucket, word, at| word.judge(bucket, at, || exact, 1).0,
        );
        visit.result
    };
    let (early, late) = (NOW, NOW + 8_000_000);
    let allowed = crate::cell::Judged::Allowed;
    assert_eq!(judge((early, late), NOW + 3), allowed);
    assert_eq!(
        judge((early, late), NOW + 1),
        allowed,
        "the other was seen at 3"
    );
    assert_ne!(judge((early, late), NOW + 4), allowed);
}

/// Another comes between the word and the swap, and takes a permit at a later time.
#[test]
fn who_meets_another_in_fixed_memory_is_judged_by_a_time_read_after_it() {
    for bandwidth in [Bandwidth::per_day(2), Bandwidth::per_day(2).fixed_window()] {
        let plan = plan(bandwidth);
        let bucket = Arc::new(*plan.single_bucket().unwrap());
        let sets = Sets::new(bucket, 100, hashing());
        let take = |word: &mut Word, bucket: &Arc<Bucket>, at: &mut Between| {
            word.take(bucket, at.0, 1).allowed
        };
        let plainly = |at: u64| {
            let visit = sets.visit(
                &7_u64,
                || (at, at),
                |bucket, word, at| take(word, bucket, at),
            );
            visit.result
        };
        let reads = Count::new(0_u64);
        let clock = || {
            reads.set(reads.get() + 1);
            if reads.get() == 1 {
                assert!(plainly(DAY + 5));
                return (DAY - 1, DAY - 1);
            }
            (DAY + 9, DAY + 9)
        };
        let visit = sets.visit(&7_u64, clock, |bucket, word, at| take(word, bucket, at));
        assert!(visit.result, "{bandwidth:?}");
        assert_eq!(reads.get(), 2);
        assert!(!plainly(DAY + 20));
    }
}

#[test]
fn an_attempt_that_costs_nothing_waits_for_none_that_was_judged_before_it() {
    let rule = PenaltyRule {
        free: 2,
        first: DAY,
        longest: DAY,
        memory: DAY,
    };
    let table = Table::<u64, Penalty>::new(&rule, 100, hashing());
    let attempt = |at: u64| {
        let visit = table.visit(
            &7,
            || (at, at),
            |rule, state, at| {
                *state = rule.attempt(*state, at.0)?;
                Ok::<(), u64>(())
            },
        );
        visit.result
    };
    assert_eq!(attempt(NOW), Ok(()));
    assert_eq!(attempt(NOW - 50), Ok(()));
    assert_eq!(attempt(NOW - 20), Ok(()), "it costs, but the next one");
    assert_eq!(attempt(NOW - 20), Err(DAY));
}
