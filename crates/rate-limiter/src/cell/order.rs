//! Calls that are judged in another order than they read the clock.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::Cell;

use super::{Gcra, Judged};
use crate::{Algorithm, Bandwidth, Quota, machine::Plan};

const DAY: u64 = 86_400_000_000_000;
/// Some time at which the second window of a day is half over.
const NOW: u64 = DAY + DAY / 2;

fn gcra(bandwidth: Bandwidth) -> Gcra {
    Gcra::new(Plan::in_process(&Quota::new(bandwidth).unwrap()).unwrap())
}

fn take(gcra: &Gcra, at: u64) -> bool {
    gcra.take(|| at, || at, 1, 0).allowed
}

/// Before the first reading of the clock and the swap of the word comes another, who takes a permit at
/// a later time.
#[test]
fn who_meets_another_between_the_word_and_the_swap_is_judged_by_a_time_read_after_it() {
    // So much later that it is no processor which read its clock too early, too.
    for (wide, later) in [
        (0, 5),
        (8_000_000, 5),
        (0, 5_000_000),
        (8_000_000, 5_000_000),
    ] {
        let gcra = gcra(Bandwidth::per_second(10).burst(2));
        let came = Cell::new(0);
        let first = || {
            assert!(take(&gcra, NOW + later));
            came.set(came.get() + 1);
            (NOW, NOW + wide)
        };
        let (judged, ..) = gcra.judge(first, || NOW + 2 * later, 1, 0);
        assert_eq!(judged, Judged::Allowed, "{wide} {later}");
        assert_eq!(came.get(), 1);
        assert!(!take(&gcra, NOW + 3 * later), "two were there");
    }
}

/// The processor read its clock a little before the word.
#[test]
fn who_lacks_next_to_nothing_is_judged_again_and_whoever_lacks_more_is_not() {
    let gcra = gcra(Bandwidth::per_second(10).burst(2));
    assert!(take(&gcra, NOW) && take(&gcra, NOW));
    let refused_at = |at: u64, again: u64| gcra.judge(|| (at, at), || again, 1, 0).0;
    let free = NOW + 100_000_000;
    assert_eq!(refused_at(free - 1, free - 1), Judged::Refused);
    assert_eq!(refused_at(free - 1, free), Judged::Allowed);
    let never = || unreachable!("it lacks too much for that");
    let (judged, ..) = gcra.judge(|| (free, free), never, 1, 0);
    assert_eq!(judged, Judged::Refused);
}

/// Under the lock, too, in all algorithms: what there is at the newest time is there for who comes next,
/// whatever his own clock said before.
#[test]
fn who_read_the_clock_first_and_is_judged_last_lacks_nothing_under_the_lock() {
    for bandwidth in [
        Bandwidth::per_day(8).by_interval(),
        Bandwidth::per_day(8).fixed_window(),
        Bandwidth::per_day(8).sliding_window(),
        Bandwidth::per_day(8).sliding_log(),
    ] {
        // Of a log yesterday's are all there again from then on, and not before.
        let is_log = bandwidth.counted_by() == Algorithm::SlidingLog;
        let now = if is_log { 2 * DAY - 1 } else { NOW };
        for several in [false, true] {
            let quota = Quota::new(bandwidth).unwrap();
            let quota = match several {
                false => quota,
                true => quota.and(Bandwidth::per_day(8)).unwrap(),
            };
            let gcra = Gcra::new(Plan::in_process(&quota).unwrap());
            // Yesterday's permits weigh in a window that slides, and have flowed in elsewhere.
            assert!(gcra.take(|| DAY - 1, || DAY - 1, 8, 0).allowed);
            let free = (1..).take_while(|n| gcra.look(|| now, *n).allowed).count();
            assert!(free >= 2, "{bandwidth:?}");
            for _ in 1..free {
                assert!(take(&gcra, now));
            }
            assert!(take(&gcra, now - 1_000_000), "{bandwidth:?} {several}");
            assert!(!take(&gcra, now - 1_000_000), "{bandwidth:?} {several}");
            assert!(!take(&gcra, now), "{bandwidth:?} {several}");
        }
    }
}

/// One permit flows in within a day: no coarse clock keeps the last one back.
#[test]
fn an_idle_bucket_into_which_little_flows_gives_its_last_permit_by_any_clock() {
    let gcra = gcra(Bandwidth::per_day(3));
    let between = || (NOW, NOW + 8_000_000);
    for _ in 0..3 {
        let (judged, ..) = gcra.judge(between, || NOW + 3_000_000, 1, 0);
        assert_eq!(judged, Judged::Allowed);
    }
    let (judged, ..) = gcra.judge(between, || NOW + 3_000_000, 1, 0);
    assert_eq!(judged, Judged::Refused);
}
