//! Jitter over many draws, with fixed seeds: bounds, medians and means, and no herd.

use std::time::Duration;

use buttress_retry_backoff::{Backoff, Dice, Jitter};

fn nth(jitter: Jitter, n: usize, samples: usize) -> Vec<f64> {
    let backoff = Backoff::exponential(Duration::from_secs(1))
        .with_jitter(jitter)
        .with_cap(Duration::from_secs(3600));
    let dice = Dice::seeded(20_261_121);
    let mut drawn: Vec<_> = (0..samples)
        .map(|_| {
            let mut delays = backoff.delays_with(dice.clone());
            delays.nth(n).unwrap().as_secs_f64()
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    drawn
}

fn about(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value / expected - 1.0).abs() < tolerance,
        "{value}, not about {expected}"
    );
}

fn mean(drawn: &[f64]) -> f64 {
    let count = u32::try_from(drawn.len()).unwrap();
    drawn.iter().sum::<f64>() / f64::from(count)
}

fn median(drawn: &[f64]) -> f64 {
    drawn[drawn.len() / 2]
}

#[test]
fn e2_6_decorrelated_v2_has_the_computed_medians_and_means() {
    let table = [
        (0.898, 0.872),
        (1.140, 1.159),
        (2.014, 2.074),
        (4.016, 4.130),
        (8.009, 8.238),
        (15.996, 16.49),
    ];
    for (n, (middle, average)) in table.into_iter().enumerate() {
        let drawn = nth(Jitter::DecorrelatedV2, n, 50_000);
        about(median(&drawn), middle, 0.02);
        about(mean(&drawn), average, 0.02);
    }
}

#[test]
fn full_equal_and_proportional_are_uniform_in_their_bounds() {
    for (jitter, low, high) in [
        (Jitter::Full, 0.0, 8.0),
        (Jitter::Equal, 4.0, 8.0),
        (Jitter::Proportional(0.25), 6.0, 10.0),
    ] {
        let drawn = nth(jitter, 3, 20_000);
        let (first, last) = (drawn[0], drawn[drawn.len() - 1]);
        assert!(
            low <= first && last <= high,
            "{jitter:?}: {first} to {last}"
        );
        about(median(&drawn), f64::midpoint(low, high), 0.03);
        about(mean(&drawn), f64::midpoint(low, high), 0.03);
        // A tenth of the range holds a tenth of the draws.
        let tenth = low + (high - low) / 10.0;
        let below = drawn.iter().filter(|it| **it < tenth).count();
        assert!((1700..2300).contains(&below), "{jitter:?}: {below}");
    }
}

/// 10,000 clients fail at once and come back for the third time within `window` or later: the
/// largest number of them within 100 ms, over the mean of the window.
fn peak_over_mean(jitter: Jitter, window: Duration, seed: u64) -> f64 {
    let backoff = Backoff::exponential(Duration::from_secs(1)).with_jitter(jitter);
    let dice = Dice::seeded(seed);
    let mut buckets = vec![0_u32; usize::try_from(window.as_millis() / 100).unwrap()];
    for _ in 0..10_000 {
        let delays = backoff.delays_with(dice.clone());
        let at: Duration = delays.take(3).sum();
        // Who comes at the very end comes within the window.
        let bucket = usize::try_from((at.as_millis().max(1) - 1) / 100).unwrap();
        if let Some(count) = buckets.get_mut(bucket) {
            *count += 1;
        }
    }
    let peak = f64::from(*buckets.iter().max().unwrap());
    let clients: u32 = buckets.iter().sum();
    peak * f64::from(u32::try_from(buckets.len()).unwrap()) / f64::from(clients)
}

const FULL: Duration = Duration::from_secs(7);

#[test]
fn rb5_ten_thousand_clients_do_not_come_back_as_a_herd() {
    let tally = buttress_testkit::tally::suite("RB5");
    for seed in 0..20 {
        for (jitter, window) in [
            (Jitter::Full, FULL),
            (Jitter::Decorrelated, Duration::from_secs(20)),
        ] {
            let peak = peak_over_mean(jitter, window, seed);
            assert!(peak <= 3.0, "{jitter:?}, seed {seed}: {peak}");
        }
    }
    tally.operations(20 * 2 * 10_000);
}

#[test]
fn rb5_the_check_finds_the_planted_herds_of_no_jitter_and_of_too_little() {
    let tally = buttress_testkit::tally::suite("RB5");
    for planted in [Jitter::None, Jitter::Proportional(0.05)] {
        let peak = peak_over_mean(planted, FULL * 2, 1);
        assert!(peak > 3.0, "{planted:?}: {peak}");
    }
    tally.caught(2);
}

#[test]
fn no_two_calls_of_one_backoff_share_their_sequence() {
    let backoff = Backoff::exponential(Duration::from_secs(1));
    let one: Vec<_> = backoff.delays().take(8).collect();
    let other: Vec<_> = backoff.delays().take(8).collect();
    assert_ne!(one, other);
}
