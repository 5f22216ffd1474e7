//! Windows beside lists of all that was ever put into them.

use std::{collections::VecDeque, time::Duration};

use buttress_circuit_breaker::{Counts, PolicyBuilder, Rate};
use buttress_testkit::{seed::Seed, tier::short_or_long};
use rand::RngExt as _;

use crate::stand::{MS, SECOND, Stand, ten_seconds};

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Duration,
    failed: bool,
    slow: bool,
}

/// What the window forgets, by brute force: how many it keeps, or how long.
#[derive(Clone, Copy)]
enum Keeps {
    Calls(usize),
    /// So long a bucket, and so many of them.
    Buckets(Duration, u128),
}

impl Keeps {
    /// Takes out the oldest, if it is forgotten now.
    fn forgets(self, entries: &mut VecDeque<Entry>, now: Duration) -> Option<Entry> {
        let oldest = entries.front()?;
        let is_gone = match self {
            Self::Calls(calls) => entries.len() > calls,
            Self::Buckets(bucket, count) => {
                let number = |at: Duration| at.as_nanos() / bucket.as_nanos();
                number(oldest.at) + count <= number(now)
            }
        };
        is_gone.then(|| entries.pop_front()).flatten()
    }
}

/// Runs so many results through a window that never opens; the number of the first after which the
/// counts are not the list's.
fn differs(policy: PolicyBuilder, keeps: Keeps, operations: u64) -> Option<u64> {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let stand = Stand::new(policy.slow_calls(5 * MS, Rate::percent(100)));
    stand.breaker.metrics_only();
    let (mut entries, mut now) = (VecDeque::new(), Duration::ZERO);
    // Kept as it goes, for a list may be long.
    let mut expected = [0_u64; 4];
    for operation in 0..operations {
        let wait = match rng.random_range(0..50_u32) {
            0 => SECOND * rng.random_range(0..12),
            1..10 => MS * rng.random_range(0..60),
            _ => Duration::ZERO,
        };
        stand.hand.advance(wait);
        let (failed, slow) = (rng.random_ratio(1, 3), rng.random_ratio(1, 5));
        let took = if slow { 6 * MS } else { MS };
        stand.call_taking(took, !failed);
        now += wait + took;
        let entry = Entry {
            at: now,
            failed,
            slow,
        };
        let of = |it: &Entry| {
            [
                1,
                u64::from(it.failed),
                u64::from(it.slow),
                u64::from(it.failed && it.slow),
            ]
        };
        entries.push_back(entry);
        expected = std::array::from_fn(|at| expected[at] + of(&entry)[at]);
        while let Some(gone) = keeps.forgets(&mut entries, now) {
            expected = std::array::from_fn(|at| expected[at] - of(&gone)[at]);
        }
        let Counts {
            calls,
            failed,
            slow,
            slow_failed,
            ..
        } = stand.breaker.counts();
        if [calls, failed, slow, slow_failed] != expected {
            return Some(operation);
        }
    }
    None
}

fn operations() -> u64 {
    short_or_long(20_000, 2_000_000)
}

#[test]
fn cb5_a_count_window_holds_what_a_list_of_all_results_holds() {
    let tally = buttress_testkit::tally::suite("CB5");
    for calls in [1, 2, 13, 14, 100] {
        let policy = ten_seconds().count_window(calls);
        let keeps = Keeps::Calls(calls as usize);
        assert_eq!(differs(policy, keeps, operations()), None, "{calls} calls");
    }
    tally.operations(5 * operations());
}

#[test]
fn cb5_a_time_window_holds_what_a_list_of_all_results_holds() {
    let tally = buttress_testkit::tally::suite("CB5");
    for (duration, buckets) in [
        (SECOND, 2),
        (SECOND, 7),
        (10 * SECOND, 10),
        (60 * SECOND, 60),
    ] {
        let policy = ten_seconds().time_window_in(duration, buckets);
        let nanos = u64::try_from(duration.as_nanos()).unwrap();
        let bucket = Duration::from_nanos(nanos.div_ceil(buckets.into()));
        let keeps = Keeps::Buckets(bucket, buckets.into());
        let differs = differs(policy, keeps, operations());
        assert_eq!(differs, None, "{duration:?} in {buckets}");
    }
    tally.operations(4 * operations());
}

#[test]
fn cb5_a_window_that_keeps_one_more_or_one_less_is_noticed() {
    let tally = buttress_testkit::tally::suite("CB5");
    let policy = || ten_seconds().count_window(100);
    for calls in [99, 101] {
        assert!(differs(policy(), Keeps::Calls(calls), 1000).is_some());
    }
    let policy = || ten_seconds().time_window(10 * SECOND);
    for (bucket, buckets) in [(SECOND, 9), (SECOND, 11), (SECOND + MS, 10)] {
        assert!(differs(policy(), Keeps::Buckets(bucket, buckets), 20_000).is_some());
    }
    tally.caught(5);
}
