//! Admissions against exact arithmetic, over every window; and the told time, to the nanosecond.

use std::{collections::VecDeque, time::Duration};

use buttress_rate_limiter::{Algorithm, Bandwidth, Quota};
use buttress_testkit::{seed::Seed, short_or_long};
use rand::{Rng as _, RngExt as _};

use crate::stand::{Stand, nanos};

/// What was admitted, and the most that any window may hold: at most `burst + rate * its length`,
/// compared as whole numbers over all windows, not over samples of them.
struct Windows {
    permits: i128,
    period: i128,
    burst: i128,
    sum: i128,
    least: i128,
}

impl Windows {
    fn new(permits: u64, period: u64, burst: u64) -> Self {
        Self {
            permits: permits.into(),
            period: period.into(),
            burst: burst.into(),
            sum: 0,
            least: i128::MAX,
        }
    }

    /// Whether all windows that end with this admission hold no more than they may.
    fn admit(&mut self, at: u64, permits: u64) -> bool {
        let paid = self.permits * i128::from(at);
        self.least = self.least.min(self.sum * self.period - paid);
        self.sum += i128::from(permits);
        self.sum * self.period - paid - self.least <= self.burst * self.period
    }
}

/// The bucket in exact fractions: a permit costs `period`, a nanosecond pays `permits`.
struct Exact {
    permits: u128,
    period: u128,
    burst: u128,
    owed: u128,
    seen: u64,
}

impl Exact {
    fn admits(&mut self, at: u64, permits: u64) -> bool {
        let paid = u128::from(at - self.seen) * self.permits;
        (self.owed, self.seen) = (self.owed.saturating_sub(paid), at);
        let next = self.owed + u128::from(permits) * self.period;
        let fits = next <= self.burst * self.period;
        if fits {
            self.owed = next;
        }
        fits
    }
}

#[test]
fn rl1_a_token_bucket_decides_as_exact_fractions_do_and_no_window_holds_more() {
    let tally = buttress_testkit::tally::suite("RL1");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let rounds = short_or_long(60, 6_000);
    for round in 0..rounds {
        let permits = rng.random_range(1..=2000_u64);
        let period = rng.random_range(permits..=10_000_000);
        let burst = rng.random_range(1..=50_u64);
        let stand = Stand::new(Bandwidth::per(permits, nanos(period)).burst(burst));
        let mut windows = Windows::new(permits, period, burst);
        let mut exact = Exact {
            permits: permits.into(),
            period: period.into(),
            burst: burst.into(),
            owed: 0,
            seen: 0,
        };
        let step = (period / permits).max(1);
        let (mut ours, mut theirs) = (0_u64, 0_u64);
        for _ in 0..6_000 {
            stand.ns(rng.random_range(0..=step * 2));
            let wanted = rng.random_range(1..=3_u64.min(burst));
            let at = stand.clock.now().as_nanos();
            let allowed = stand.limiter.check_n(wanted).is_allowed();
            let right = exact.admits(at, wanted);
            ours += if allowed { wanted } else { 0 };
            theirs += if right { wanted } else { 0 };
            if allowed {
                let held = windows.admit(at, wanted);
                assert!(
                    held,
                    "{permits} in {period} ns, burst {burst}: round {round}"
                );
            }
        }
        let few = permits / gcd(permits, period) <= 32;
        assert!(
            !few || ours == theirs,
            "{permits} in {period}: {ours}, {theirs}"
        );
        assert!(
            ours * 1000 >= theirs * 990,
            "{permits} in {period}: {ours} of {theirs}"
        );
    }
    tally.operations(rounds * 6_000);
}

const fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 {
        one
    } else {
        gcd(other, one % other)
    }
}

#[test]
fn rl1_no_window_of_any_algorithm_holds_more_than_its_table_says() {
    let tally = buttress_testkit::tally::suite("RL1");
    let seed = Seed::new();
    let mut rng = seed.rng();
    for algorithm in [
        Algorithm::Interval,
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
    ] {
        for _ in 0..short_or_long(15, 1_500) {
            let permits = rng.random_range(1..=40_u64);
            let period = rng.random_range(1_000..=100_000_u64);
            let bandwidth = Bandwidth::per(permits, nanos(period)).algorithm(algorithm);
            let stand = Stand::new(bandwidth);
            let most = match algorithm {
                Algorithm::SlidingLog => permits,
                Algorithm::SlidingWindow => (2 * permits - 1).max(permits),
                _ => 2 * permits,
            };
            let (mut admitted, mut held) = (VecDeque::new(), 0);
            for _ in 0..4_000 {
                stand.ns(rng.random_range(0..=period / permits));
                let wanted = rng.random_range(1..=2.min(permits));
                let at = stand.clock.now().as_nanos();
                if !stand.limiter.check_n(wanted).is_allowed() {
                    continue;
                }
                admitted.push_back((at, wanted));
                held += wanted;
                while let Some((first, count)) = admitted.front()
                    && first + period <= at
                {
                    held -= count;
                    admitted.pop_front();
                }
                assert!(
                    held <= most,
                    "{algorithm:?}: {held} of {permits} in {period}"
                );
            }
        }
    }
    tally.operations(4 * short_or_long(15, 1_500) * 4_000);
}

/// A planted bug: a bucket that rounds the cost of a permit down, as governor's does, is over the bound.
#[test]
fn the_window_check_catches_a_bucket_that_rounds_in_the_callers_favour() {
    let tally = buttress_testkit::tally::suite("RL1");
    let mut windows = Windows::new(3, 10, 1);
    let rounded_down = 3; // ns a permit, of 3.33
    let held = (0..100).all(|at| windows.admit(at * rounded_down, 1));
    assert!(!held);
    let mut windows = Windows::new(3, 10, 1);
    let rounded_up = 4;
    assert!((0..100).all(|at| windows.admit(at * rounded_up, 1)));
    tally.caught(1);
}

#[test]
fn rl2_a_refused_one_is_refused_until_the_told_time_and_allowed_at_it() {
    let tally = buttress_testkit::tally::suite("RL2");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut told = 0;
    let wanted = short_or_long(100_000, 1_000_000);
    while told < wanted {
        let permits = rng.random_range(1..=100_u64);
        let period = rng.random_range(permits..=1_000_000);
        let algorithm = [
            Algorithm::TokenBucket,
            Algorithm::Interval,
            Algorithm::FixedWindow,
            Algorithm::SlidingWindow,
            Algorithm::SlidingLog,
        ][rng.random_range(0..5)];
        let first = Bandwidth::per(permits, nanos(period)).algorithm(algorithm);
        let mut quota = Quota::new(first).unwrap();
        if rng.random_bool(0.3) {
            let second = Bandwidth::per(permits * 3, nanos(period * 4)).sliding_window();
            quota = quota.and(second).unwrap();
        }
        let stand = Stand::at(rng.next_u32().into(), quota, None);
        for _ in 0..400 {
            let wanted = rng.random_range(1..=permits);
            let decision = stand.limiter.check_n(wanted);
            if decision.is_allowed() {
                continue;
            }
            told += 1;
            let wait = decision.retry_after().unwrap();
            assert!(wait > Duration::ZERO);
            stand.hand.advance(wait - nanos(1));
            let early = stand.limiter.peek_n(wanted);
            assert!(
                !early.is_allowed(),
                "{algorithm:?} {permits} in {period}: {wait:?}"
            );
            assert_eq!(early.retry_after(), Some(nanos(1)), "{algorithm:?}");
            stand.ns(1);
            let then = stand.limiter.check_n(wanted);
            assert!(
                then.is_allowed(),
                "{algorithm:?} {permits} in {period}: {wait:?}"
            );
        }
    }
    tally.operations(told);
}
