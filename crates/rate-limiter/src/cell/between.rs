//! Decisions on a time that is known only roughly, held against the same on the exact time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::Cell;

use proptest::prelude::*;

use super::{Gcra, Judged};
use crate::{Bandwidth, Quota, machine::Plan};

const TICK: u64 = 4_000_000;

fn gcra(permits: u64, burst: u64) -> Gcra {
    let quota = Quota::new(Bandwidth::per_second(permits).burst(burst));
    Gcra::new(Plan::in_process(&quota.unwrap()).unwrap())
}

/// The earliest and the latest that it can be at `now`, by a clock that shows the last of its ticks.
const fn bounds(now: u64) -> (u64, u64) {
    let shown = now - now % TICK;
    (shown, shown + 2 * TICK)
}

/// Decides as the handle does, and checks that whatever is said without the exact time is said with it.
/// Whether it was allowed, and whether the exact time was asked.
fn decide(gcra: &Gcra, now: u64, permits: u64) -> (bool, bool) {
    let exact = gcra.look(|| now, permits);
    let asked = Cell::new(false);
    let ask = || {
        asked.set(true);
        now
    };
    let (judged, owed, wait) = gcra.judge(|| bounds(now), ask, permits, 0);
    assert_ne!(judged, Judged::Elsewhere);
    let ruling = gcra.ruling(judged, owed, wait);
    assert_eq!(ruling.allowed, exact.allowed, "at {now}: {ruling:?}");
    let (roughly, exactly) = (ruling.look, gcra.look(|| now, permits).look);
    assert!(
        roughly.free <= exactly.free,
        "it says no more than is there"
    );
    if !ruling.allowed {
        let (told, least) = (roughly.wait_ticks(), exactly.wait_ticks());
        assert!((least..=least + 2 * TICK).contains(&told), "{told} {least}");
    }
    (ruling.allowed, asked.get())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// In no window more than the burst and what flows in, in exact fractions.
    #[test]
    fn what_is_said_without_the_exact_time_is_what_it_would_say(
        permits in 1_u64..3_000_000,
        burst in 1_u64..2_000_000,
        steps in prop::collection::vec((0_u64..3 * TICK, 1_u64..50_000), 1..200),
    ) {
        let gcra = gcra(permits, burst);
        let (mut now, mut given) = (10 * TICK, Vec::new());
        for (step, wanted) in steps {
            now += step;
            let wanted = wanted.min(burst);
            if decide(&gcra, now, wanted).0 {
                given.push((now, wanted));
            }
        }
        for (at, (from, _)) in given.iter().enumerate() {
            let mut sum = 0_u128;
            for (until, wanted) in &given[at..] {
                sum += u128::from(*wanted);
                let most = u128::from(burst) * 1_000_000_000 + u128::from(permits) * u128::from(until - from);
                prop_assert!(sum * 1_000_000_000 <= most, "{} within {}", sum, until - from);
            }
        }
    }
}

#[test]
fn under_load_all_of_the_quota_is_given_and_the_exact_time_is_seldom_asked() {
    let gcra = gcra(100_000, 10_000);
    let (mut given, mut asked, mut exact) = (0_u64, 0_u64, 0_u64);
    // A question each two microseconds, for five seconds.
    for now in (0..5_000_000_000).step_by(2_000) {
        let (allowed, exactly) = decide(&gcra, 10 * TICK + now, 1);
        given += u64::from(allowed);
        exact += u64::from(exactly);
        asked += 1;
    }
    assert!((509_000..=510_000).contains(&given), "{given}");
    // It is what is told apart within two ticks: of a bucket that is empty, nearly all.
    assert!(exact < asked, "{exact} of {asked}");
}

#[test]
fn a_full_bucket_and_a_long_debt_need_no_exact_time() {
    let gcra = gcra(100_000, 100_000);
    let now = 10 * TICK;
    for _ in 0..50_000 {
        assert_eq!(decide(&gcra, now, 1), (true, false));
    }
    let _owed = gcra.force(|| now, 100_000);
    for _ in 0..1_000 {
        assert_eq!(decide(&gcra, now + TICK, 1), (false, false));
    }
}

#[test]
fn a_small_bucket_is_left_to_the_exact_time() {
    let gcra = gcra(1_000, 5);
    for _ in 0..5 {
        assert_eq!(decide(&gcra, 10 * TICK, 1), (true, true));
    }
    assert_eq!(decide(&gcra, 10 * TICK, 1), (false, true));
}
