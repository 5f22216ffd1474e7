//! Many rounds of many suites in a given time: who has had the least of it is next.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// What a suite has had so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Had {
    time: Duration,
    rounds: u64,
    runs: bool,
}

/// Runs each of `count` suites once, and then, until `time` is over, whoever has had the least:
/// `run(number, round)`, so many at once.
pub(crate) fn rounds(
    count: usize,
    time: Duration,
    at_once: usize,
    run: impl Fn(usize, u64) + Sync,
) -> Vec<u64> {
    let had = Mutex::new(vec![Had::default(); count]);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let next = {
                        let mut had = had.lock().unwrap_or_else(PoisonError::into_inner);
                        let next = next(&had, begun.elapsed() < time);
                        if let Some(next) = next {
                            had[next].runs = true;
                        }
                        next.map(|number| (number, had[number].rounds))
                    };
                    let Some((number, round)) = next else {
                        break;
                    };
                    let start = Instant::now();
                    run(number, round);
                    let mut had = had.lock().unwrap_or_else(PoisonError::into_inner);
                    had[number].time += start.elapsed();
                    had[number].rounds += 1;
                    had[number].runs = false;
                }
            });
        }
    });
    let had = had.into_inner().unwrap_or_else(PoisonError::into_inner);
    had.iter().map(|it| it.rounds).collect()
}

/// Who is next: one that has not run yet, or, while there is time, the one that had the least.
fn next(had: &[Had], is_time: bool) -> Option<usize> {
    let free = had.iter().enumerate().filter(|(_, it)| !it.runs);
    let may = free.filter(|(_, it)| is_time || it.rounds == 0);
    may.min_by_key(|(_, it)| (it.rounds > 0, it.time))
        .map(|it| it.0)
}

/// The seed of a suite's round, of the run's seed: another one for each, and the same each time.
pub(crate) fn seed_of(run: u64, suite: &str, round: u64) -> u64 {
    // FNV-1a for the name, and the finalizer of SplitMix64 for what comes of it.
    let hash = suite.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = run ^ hash.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn without_time_each_suite_has_one_round() {
        let ran = Mutex::new(Vec::new());
        let counts = rounds(5, Duration::ZERO, 2, |number, round| {
            ran.lock().unwrap().push((number, round));
        });
        assert_eq!(counts, [1; 5]);
        let mut ran = ran.into_inner().unwrap();
        ran.sort_unstable();
        assert_eq!(ran, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]);
    }

    #[test]
    fn who_has_had_the_least_is_next_and_nobody_runs_twice_at_once() {
        let had = |millis, rounds, runs| Had {
            time: Duration::from_millis(millis),
            rounds,
            runs,
        };
        let all = [had(30, 3, false), had(10, 1, false), had(5, 1, true)];
        assert_eq!(next(&all, true), Some(1));
        assert_eq!(next(&all, false), None);
        let fresh = [had(30, 3, false), had(0, 0, false)];
        assert_eq!(next(&fresh, false), Some(1));
        assert_eq!(next(&[], true), None);
    }

    #[test]
    fn seeds_are_repeated_and_differ_by_suite_and_round() {
        let seeds: BTreeSet<_> = (0..10)
            .flat_map(|round| ["a", "b"].map(|suite| seed_of(7, suite, round)))
            .collect();
        assert_eq!(seeds.len(), 20);
        assert_eq!(seed_of(7, "a", 3), seed_of(7, "a", 3));
        assert_ne!(seed_of(7, "a", 3), seed_of(8, "a", 3));
    }
}
