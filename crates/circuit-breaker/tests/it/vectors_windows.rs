//! The cases of other systems' tests and specifications, by their ids: windows.

use std::time::Duration;

use buttress_circuit_breaker::{Policy, PolicyBuilder, Rate};

use crate::stand::{MS, SECOND, Stand};

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

#[test]
fn a1_1_to_a1_12_a_count_window_shows_its_last_calls() {
    let of = |stand: &Stand| {
        let it = stand.breaker.counts();
        (it.calls, it.succeeded(), it.failed, it.slow, it.slow_failed)
    };
    let (fast, slow) = (100 * MS, 10 * SECOND);
    type Row<'a> = (u32, &'a [(Duration, bool)], (u64, u64, u64, u64, u64));
    let table: [Row<'_>; 11] = [
        (5, &[(fast, true)], (1, 1, 0, 0, 0)),
        (5, &[(fast, false)], (1, 0, 1, 0, 0)),
        (5, &[(slow, true)], (1, 1, 0, 1, 0)),
        (
            5,
            &[
                (slow, true),
                (slow, false),
                (fast, true),
                (fast, true),
                (fast, true),
            ],
            (5, 4, 1, 2, 1),
        ),
        (4, &[(fast, false), (fast, true)], (2, 1, 1, 0, 0)),
        (
            4,
            &[(fast, false), (fast, true), (fast, true)],
            (3, 2, 1, 0, 0),
        ),
        (
            4,
            &[(fast, false), (fast, true), (fast, true), (fast, true)],
            (4, 3, 1, 0, 0),
        ),
        (
            4,
            &[
                (fast, false),
                (fast, true),
                (fast, true),
                (fast, true),
                (fast, true),
            ],
            (4, 4, 0, 0, 0),
        ),
        (2, &[(slow, false), (slow, true)], (2, 1, 1, 2, 1)),
        (
            2,
            &[(slow, false), (slow, true), (fast, true)],
            (2, 2, 0, 1, 0),
        ),
        (
            2,
            &[(slow, false), (slow, true), (fast, true), (fast, true)],
            (2, 2, 0, 0, 0),
        ),
    ];
    for (size, calls, expected) in table {
        let stand = counting(Policy::builder().count_window(size));
        for (took, ok) in calls {
            stand.call_taking(*took, *ok);
        }
        assert_eq!(of(&stand), expected, "{size} {calls:?}");
    }
}

#[test]
fn a2_1_a_time_window_forgets_by_whole_buckets() {
    let stand = counting(Policy::builder().time_window_in(5 * SECOND, 5));
    stand.calls("F");
    stand.hand.advance(100 * MS);
    stand.calls("S");
    stand.hand.advance(700 * MS);
    stand.calls("F");
    stand.hand.advance(4 * SECOND);
    assert_eq!(counts(&stand), (3, 2));
    stand.hand.advance(SECOND);
    assert_eq!(counts(&stand), (0, 0));
    stand.calls("S");
    assert_eq!(counts(&stand), (1, 0));
    stand.hand.advance(5 * SECOND);
    stand.calls("S");
    assert_eq!(counts(&stand), (1, 0));
}

#[test]
fn a2_2_each_second_takes_the_oldest_with_it() {
    let stand = counting(Policy::builder().time_window_in(5 * SECOND, 5));
    for result in ["F", "S", "S"] {
        stand.calls(result);
        stand.hand.advance(100 * MS);
    }
    assert_eq!(counts(&stand), (3, 1));
    let steps = [
        ("S", 4, 1),
        ("S", 5, 1),
        ("F", 6, 2),
        ("S", 7, 2),
        ("S", 5, 1),
        ("S", 5, 1),
    ];
    for (result, calls, failed) in steps {
        stand.hand.advance(SECOND);
        stand.calls(result);
        assert_eq!(counts(&stand), (calls, failed));
    }
    stand.hand.advance(5 * SECOND);
    stand.calls("S");
    assert_eq!(counts(&stand), (1, 0));
}

#[test]
fn a3_1_to_a3_4_ten_buckets_over_ten_seconds() {
    let ten = || counting(Policy::builder().time_window(10 * SECOND));
    let stand = ten();
    stand.calls("FSSSS");
    assert_eq!(counts(&stand), (5, 1), "a3_1");

    let stand = ten();
    let expected = [(2, 1), (4, 2), (6, 2), (8, 2), (8, 1)];
    for (at, expected) in expected.into_iter().enumerate() {
        stand.calls(if at < 2 { "FS" } else { "SS" });
        stand.hand.advance(2 * SECOND);
        assert_eq!(counts(&stand), expected, "a3_2, {at}");
    }
    stand.hand.advance(2 * SECOND);
    assert_eq!(counts(&stand), (6, 0), "a3_2");

    let stand = ten();
    for _ in 0..10 {
        stand.calls("S");
        stand.hand.advance(SECOND);
    }
    assert_eq!(counts(&stand).0, 9, "a3_3");
    stand.hand.advance(SECOND);
    assert_eq!(counts(&stand).0, 8, "a3_3");

    for after in [10 * SECOND, 10 * SECOND + MS] {
        let stand = ten();
        stand.calls("SS");
        stand.hand.advance(after);
        assert_eq!(counts(&stand), (0, 0), "a3_4");
    }
}

/// So many calls, of which each `of`th succeeds, or, with `but`, fails.
fn every(stand: &Stand, calls: u32, of: u32, but: bool) {
    for at in 0..calls {
        stand.calls(if (at % of == 0) ^ but { "S" } else { "F" });
    }
}

#[test]
fn a4_1_a4_2_a_window_of_a_hundred() {
    let stand = counting(Policy::builder().count_window(100));
    every(&stand, 50, 3, false);
    assert_eq!(counts(&stand), (50, 33));
    every(&stand, 100, 1, false);
    assert_eq!(counts(&stand), (100, 0));
}

#[test]
fn a4_4_to_a4_11_four_buckets_of_a_second() {
    let stand = counting(Policy::builder().time_window_in(4 * SECOND, 4));
    let mut now = 0;
    let steps = [
        (0, 50, 5, (50, 40)),
        (1000, 10, 1, (60, 40)),
        (2500, 20, u32::MAX, (80, 60)),
        (3100, 25, 5, (105, 80)),
        (5400, 8, 1, (53, 40)),
        (7300, 5, u32::MAX, (13, 5)),
        (22500, 0, 1, (0, 0)),
        (23100, 3, 1, (3, 0)),
    ];
    for (at, calls, of, expected) in steps {
        stand.hand.advance((at - now) * MS);
        now = at;
        match of {
            u32::MAX => (0..calls).for_each(|_| {
                stand.calls("F");
            }),
            of => every(&stand, calls, of, false),
        }
        assert_eq!(counts(&stand), expected, "at {at}");
    }
}

#[test]
fn a5_2_samples_of_five_seconds() {
    let stand = counting(Policy::builder().time_window_in(5 * SECOND, 5));
    for second in 0..=6 {
        if second > 0 {
            stand.hand.advance(SECOND);
        }
        (0..second).for_each(|_| {
            stand.calls("FSS");
        });
    }
    assert_eq!(counts(&stand), (60, 20));
}

#[test]
fn a5_6_a5_7_what_cannot_work_is_no_policy() {
    for builder in [
        Policy::builder().failure_rate(Rate::percent(0)),
        Policy::builder().failure_rate(Rate::percent(1000)),
        Policy::builder().count_window(0),
        Policy::builder().minimum_calls(0),
        Policy::builder().count_window(5).minimum_calls(6),
    ] {
        assert!(builder.build().is_err());
    }
}
