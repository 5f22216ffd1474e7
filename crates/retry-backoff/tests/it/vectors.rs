//! Cases from other systems' tests and specifications, each by its id.

use std::time::Duration;

use buttress_retry_backoff::{Backoff, Dice, Jitter, RetryPolicy};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn told(backoff: &Backoff, rolls: impl IntoIterator<Item = f64>, count: usize) -> Vec<Duration> {
    let delays = backoff.delays_with(Dice::told(rolls));
    delays.take(count).collect()
}

fn plain(backoff: Backoff, count: usize) -> Vec<Duration> {
    told(&backoff.with_jitter(Jitter::None), [], count)
}

/// To the microsecond, for the figures are given with six digits.
fn close(delays: &[Duration], seconds: &[f64]) {
    assert_eq!(delays.len(), seconds.len());
    for (delay, expected) in delays.iter().zip(seconds) {
        let off = (delay.as_secs_f64() - expected).abs();
        assert!(off < 1e-6, "{delay:?}, not {expected} s: {delays:?}");
    }
}

#[test]
fn e1_1_constant() {
    assert_eq!(plain(Backoff::constant(secs(1)), 3), [secs(1); 3]);
}

#[test]
fn e1_2_constant_with_a_quarter_of_jitter() {
    let backoff = Backoff::constant(secs(1)).with_jitter(Jitter::Proportional(0.25));
    close(
        &told(&backoff, [0.0, 0.4, 0.6, 1.0], 4),
        &[0.75, 0.95, 1.05, 1.25],
    );
}

#[test]
fn e1_3_linear() {
    let backoff = Backoff::linear(secs(1), secs(1));
    assert_eq!(plain(backoff, 3), [1, 2, 3].map(secs));
}

#[test]
fn e1_4_linear_with_a_quarter_of_jitter() {
    let backoff = Backoff::linear(secs(1), secs(1)).with_jitter(Jitter::Proportional(0.25));
    for (u, expected) in [
        (0.0, 2.25),
        (0.4, 2.85),
        (0.5, 3.0),
        (0.6, 3.15),
        (1.0, 3.75),
    ] {
        close(&told(&backoff, [u], 3)[2..], &[expected]);
    }
}

#[test]
fn e1_5_exponential() {
    assert_eq!(plain(Backoff::exponential(secs(1)), 3), [1, 2, 4].map(secs));
}

#[test]
fn e1_6_the_cap_holds_for_all_shapes_with_and_without_jitter() {
    for backoff in [
        Backoff::constant(secs(10)),
        Backoff::linear(secs(10), secs(10)),
        Backoff::exponential(secs(10)),
        Backoff::fibonacci(secs(10)),
        Backoff::custom(|_| secs(10)),
    ] {
        for jitter in [Jitter::None, Jitter::Proportional(0.25)] {
            let backoff = backoff.clone().with_cap(secs(1)).with_jitter(jitter);
            assert_eq!(told(&backoff, [0.5], 3)[2], secs(1), "{backoff:?}");
        }
    }
}

const DAY: Duration = secs(86_400);

#[test]
fn e1_7_the_thousandth_power_saturates() {
    let backoff = Backoff::exponential(DAY).with_cap(Duration::MAX);
    assert_eq!(plain(backoff, 1001)[1000], Duration::MAX);
}

#[test]
fn e1_8_the_thousandth_power_is_capped() {
    let backoff = Backoff::exponential(DAY).with_cap(2 * DAY);
    assert_eq!(plain(backoff, 1001)[1000], 2 * DAY);
}

#[test]
fn e1_9_nothing_stays_nothing() {
    for backoff in [
        Backoff::none(),
        Backoff::linear(Duration::ZERO, Duration::ZERO),
        Backoff::exponential(Duration::ZERO),
        Backoff::fibonacci(Duration::ZERO),
    ] {
        for jitter in [
            Jitter::None,
            Jitter::Full,
            Jitter::Equal,
            Jitter::Proportional(1.0),
        ] {
            let backoff = backoff.clone().with_jitter(jitter);
            assert_eq!(
                told(&backoff, [0.9], 40),
                [Duration::ZERO; 40],
                "{backoff:?}"
            );
        }
    }
}

#[test]
fn e1_10_many_attempts_stay_over_nothing_and_under_the_cap() {
    for jitter in [
        Jitter::None,
        Jitter::DecorrelatedV2,
        Jitter::Proportional(0.25),
    ] {
        let backoff = Backoff::exponential(secs(1)).with_jitter(jitter);
        let free: Vec<_> = told(&backoff.clone().with_cap(Duration::MAX), [0.3], 1026);
        let capped: Vec<_> = told(&backoff.with_cap(secs(30)), [0.3], 1026);
        for attempt in [1, 2, 3, 4, 10, 100, 1000, 1024, 1025] {
            assert!(free[attempt] > Duration::ZERO, "{jitter:?} {attempt}");
            assert!(
                (ms(1)..=secs(30)).contains(&capped[attempt]),
                "{jitter:?} {attempt}"
            );
        }
    }
}

#[test]
fn e1_11_every_delay_that_is_a_duration_is_valid() {
    for delay in [Duration::ZERO, secs(1), Duration::MAX] {
        let policy = RetryPolicy::builder().backoff(Backoff::constant(delay));
        assert!(policy.build().is_ok(), "{delay:?}");
    }
}

fn v2(u: f64) -> Vec<Duration> {
    let backoff = Backoff::exponential(secs(1)).with_jitter(Jitter::DecorrelatedV2);
    told(&backoff.with_cap(Duration::MAX), [u], 6)
}

#[test]
fn e2_1_to_e2_5_decorrelated_v2() {
    for (u, expected) in [
        (
            0.0,
            [0.0, 1.377_182, 1.460_067, 2.865_850, 5.717_807, 11.430_272],
        ),
        (
            0.25,
            [
                0.646_924, 1.013_570, 1.720_438, 3.404_510, 6.798_370, 13.592_378,
            ],
        ),
        (
            0.5,
            [
                0.897_405, 1.093_004, 2.035_748, 4.045_979, 8.083_632, 16.163_663,
            ],
        ),
        (
            0.75,
            [
                1.128_360, 1.250_132, 2.414_001, 4.809_443, 9.612_264, 19.221_529,
            ],
        ),
        (
            1.0,
            [
                1.377_182, 1.460_067, 2.865_850, 5.717_807, 11.430_272, 22.858_027,
            ],
        ),
    ] {
        close(&v2(u), &expected);
    }
}

#[test]
fn e2_7_decorrelated_v2_stays_in_its_bounds_and_differs_each_time() {
    let backoff = Backoff::exponential(secs(1))
        .with_jitter(Jitter::DecorrelatedV2)
        .with_cap(Duration::MAX);
    let dice = Dice::seeded(11);
    let mut before = Vec::new();
    for _ in 0..2000 {
        let delays: Vec<_> = backoff.delays_with(dice.clone()).take(12).collect();
        for (n, delay) in delays.iter().enumerate() {
            assert!(*delay <= secs(4 << n), "{n}: {delay:?}");
        }
        assert_ne!(delays, before);
        before = delays;
    }
}

#[test]
fn e3_1_linear_by_factors_one_and_two() {
    assert_eq!(
        plain(Backoff::linear(ms(100), ms(100)), 5),
        [100, 200, 300, 400, 500].map(ms)
    );
    assert_eq!(
        plain(Backoff::linear(ms(100), ms(200)), 5),
        [100, 300, 500, 700, 900].map(ms)
    );
}

#[test]
fn e3_2_exponential_by_factors_two_and_four() {
    let backoff = Backoff::exponential(ms(100)).with_cap(secs(60));
    assert_eq!(
        plain(backoff.clone(), 5),
        [100, 200, 400, 800, 1600].map(ms)
    );
    assert_eq!(
        plain(backoff.with_factor(4.0), 5),
        [100, 400, 1600, 6400, 25_600].map(ms)
    );
}

#[test]
fn e3_3_a_fast_first_is_a_custom_one() {
    let rest = [0, 200, 400, 800];
    let backoff = Backoff::custom(move |n| ms(rest.get(n as usize).copied().unwrap_or(1600)));
    assert_eq!(plain(backoff, 4), [0, 200, 400, 800].map(ms));
}

#[test]
fn e3_4_decorrelated_stays_from_its_first_to_its_cap_and_within_three_times_the_last() {
    let backoff = Backoff::exponential(ms(10))
        .with_jitter(Jitter::Decorrelated)
        .with_cap(ms(100));
    let mut before = ms(10);
    for delay in backoff.delays_with(Dice::seeded(5)).take(10_000) {
        assert!((ms(10)..=ms(100)).contains(&delay));
        assert!(
            delay <= ms(100).min(before * 3),
            "{delay:?} after {before:?}"
        );
        before = delay;
    }
}

#[test]
fn e4_1_exponential_grows_to_its_cap() {
    // The first one is theirs at attempt 1; the eleventh, 102.4 s, is the first over the cap.
    let delays = plain(Backoff::exponential(ms(100)).with_cap(ms(100_000)), 13);
    assert!(delays[..11].is_sorted_by(|one, next| one < next));
    assert_eq!(delays[11..], [ms(100_000); 2]);
}

#[test]
fn e4_2_half_of_jitter_stays_within_half() {
    let backoff = Backoff::constant(ms(100)).with_jitter(Jitter::Proportional(0.5));
    for delay in backoff.delays_with(Dice::seeded(9)).take(10_000) {
        assert!((ms(50)..=ms(150)).contains(&delay));
    }
}

#[test]
fn e4_3_what_cannot_work_is_refused() {
    let build = |backoff| RetryPolicy::builder().backoff(backoff).build();
    let first = Backoff::exponential(ms(10));
    for (backoff, field) in [
        (first.clone().with_factor(0.99), "backoff.factor"),
        (first.clone().with_factor(f64::NAN), "backoff.factor"),
        (first.clone().with_cap(Duration::ZERO), "backoff.cap"),
        (
            first.clone().with_jitter(Jitter::Proportional(1.01)),
            "backoff.jitter",
        ),
        (
            first.clone().with_jitter(Jitter::Proportional(-0.01)),
            "backoff.jitter",
        ),
    ] {
        assert_eq!(build(backoff).unwrap_err().field(), field);
    }
    for interval in [10, 99, 981] {
        assert!(build(Backoff::exponential(ms(interval)).with_factor(1.0)).is_ok());
    }
}

#[test]
fn e4_4_ours_is_not_truncated_at_every_step() {
    let backoff = Backoff::exponential(ms(500)).with_factor(1.5);
    close(&plain(backoff, 4), &[0.5, 0.75, 1.125, 1.6875]);
}

/// That project draws from the top: its u is one minus ours.
#[test]
fn e5_3_and_e5_4_a_factor_of_one_half() {
    let backoff = Backoff::constant(ms(100)).with_jitter(Jitter::Proportional(0.5));
    let rolls = [0.0, 0.25, 0.5, 0.75, 1.0].map(|u| 1.0 - u);
    assert_eq!(told(&backoff, rolls, 5), [150, 125, 100, 75, 50].map(ms));
    let backoff = Backoff::constant(ms(500)).with_jitter(Jitter::Proportional(0.5));
    assert_eq!(told(&backoff, [0.75], 1), [ms(625)]);
}

/// A delay from a range is a constant one, give or take half of the range; theirs is cut to
/// milliseconds.
#[test]
fn e5_1_and_e5_2_a_delay_from_a_range() {
    let range = |low: u64, high: u64| {
        let half = Duration::from_millis(high - low) / 2;
        Backoff::constant(ms(low) + half).with_jitter(Jitter::Spread(half))
    };
    let cut = |backoff: &Backoff, rolls: &[f64]| -> Vec<u128> {
        let delays = told(backoff, rolls.to_vec(), rolls.len());
        delays.iter().map(Duration::as_millis).collect()
    };
    let drawn = cut(&range(10, 100), &[0.0, 0.25, 0.5, 0.75, 1.0]);
    assert_eq!(drawn, [10, 32, 55, 77, 100]);
    assert_eq!(cut(&range(50, 500), &[0.25]), [162]);
}

/// As with E5.3, their u is one minus ours.
#[test]
fn e5_5_and_e5_6_give_or_take_so_many_milliseconds() {
    let spread = |delay| Backoff::constant(ms(delay)).with_jitter(Jitter::Spread(ms(50)));
    let rolls = [0.0, 0.25, 0.5, 0.75, 1.0].map(|u| 1.0 - u);
    assert_eq!(
        told(&spread(100), rolls, 5),
        [150, 125, 100, 75, 50].map(ms)
    );
    assert_eq!(told(&spread(500), [0.75], 1), [ms(525)]);
    assert_eq!(told(&spread(20), [0.0], 1), [ms(0)]);
}

/// That project draws whole numbers: random mod the interval.
fn envoy(first: u64, cap: u64, randoms: &[u32]) -> Vec<u64> {
    let intervals = plain(
        Backoff::exponential(ms(first)).with_cap(ms(cap)),
        randoms.len(),
    );
    let rolls = intervals.iter().zip(randoms).map(|(interval, random)| {
        let interval = u32::try_from(interval.as_millis()).unwrap();
        f64::from(random % interval) / f64::from(interval)
    });
    let backoff = Backoff::exponential(ms(first)).with_cap(ms(cap));
    let delays = told(&backoff, rolls.collect::<Vec<_>>(), randoms.len());
    let millis = delays.iter().map(|it| (it.as_secs_f64() * 1e3).round());
    millis.map(|it| format!("{it}").parse().unwrap()).collect()
}

#[test]
fn e7_1_to_e7_5_full_jitter() {
    assert_eq!(envoy(25, 30, &[27, 27]), [2, 27]);
    assert_eq!(envoy(5, 100, &[9999; 6]), [4, 9, 19, 39, 79, 99]);
    assert_eq!(envoy(25, 250, &[190; 3]), [15, 40, 90]);
    assert_eq!(
        envoy(100, 1200, &[149, 350, 751, 2399, 2399]),
        [49, 150, 351, 799, 1199]
    );
    assert_eq!(
        envoy(100, 1000, &[149, 350, 751, 2999, 2999])[3..],
        [599, 999]
    );
}

#[test]
fn e7_7_constant_always() {
    assert_eq!(plain(Backoff::constant(ms(25)), 50), [ms(25); 50]);
}

#[test]
fn e7_8_a_reset_begins_anew() {
    let backoff = Backoff::exponential(ms(5)).with_jitter(Jitter::None);
    let mut delays = backoff.delays();
    assert_eq!(delays.by_ref().take(3).last(), Some(ms(20)));
    delays.reset();
    assert_eq!(delays.next(), Some(ms(5)));
}

fn aws(first: Duration, count: usize) -> Vec<Duration> {
    told(&Backoff::exponential(first), [1.0], count)
}

#[test]
fn e8_1_and_e8_2_aws_with_the_longest_draw() {
    assert_eq!(aws(secs(1), 9), [1, 2, 4, 8, 16, 20, 20, 20, 20].map(secs));
    assert_eq!(
        aws(ms(50), 11),
        [
            50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000
        ]
        .map(ms)
    );
}

#[test]
fn e8_5_to_e8_7_aws_bases_overflow_and_another_cap() {
    assert_eq!(aws(secs(1), 3), [1, 2, 4].map(secs));
    assert_eq!(aws(secs(3), 3), [3, 6, 12].map(secs));
    assert_eq!(aws(ms(30), 3), [30, 60, 120].map(ms));
    assert_eq!(aws(secs(1), 100)[33..], [secs(20); 67]);
    let backoff = Backoff::exponential(secs(1)).with_cap(secs(3));
    assert_eq!(told(&backoff, [1.0], 4), [1, 2, 3, 3].map(secs));
}

fn blog(jitter: Jitter, count: usize) -> Vec<Duration> {
    let backoff = Backoff::exponential(ms(5)).with_cap(ms(2000));
    told(&backoff.with_jitter(jitter), [0.5], count)
}

#[test]
fn e10_1_to_e10_4_the_formulas_of_the_blog() {
    assert_eq!(
        blog(Jitter::None, 10),
        [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2000].map(ms)
    );
    close(&blog(Jitter::Equal, 3), &[0.003_75, 0.0075, 0.015]);
    close(&blog(Jitter::Full, 3), &[0.0025, 0.005, 0.01]);
    close(&blog(Jitter::Decorrelated, 3), &[0.01, 0.0175, 0.028_75]);
}

/// E11.3 is the opposite here: with their cap of 10 s they draw up to 12 s, and we do not.
#[test]
fn e11_1_to_e11_3_grpc() {
    let backoff = Backoff::exponential(secs(1))
        .with_cap(secs(10))
        .with_jitter(Jitter::Proportional(0.2));
    for (n, low, high) in [(1, 0.8, 1.2), (3, 3.2, 4.8), (5, 8.0, 10.0)] {
        close(&told(&backoff, [0.0], n)[n - 1..], &[low]);
        close(&told(&backoff, [1.0], n)[n - 1..], &[high]);
    }
}

#[test]
fn e11_4_no_attempt_is_refused() {
    let refused = RetryPolicy::builder().attempts(0).build().unwrap_err();
    assert_eq!(refused.to_string(), "attempts must be from 1");
}
