//! Any policy, any number of attempts, any hint: no panic, and no delay out of its bounds.

use std::time::Duration;

use buttress_core::{RetryAfter, Verdict};
use buttress_retry_backoff::{Backoff, Dice, Jitter, RetryAfterRule, RetryPolicy, Stopped};
use buttress_testkit::tier::short_or_long;
use proptest::prelude::*;

use crate::waits::{Waits, waits};

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::MAX),
        (0_u64..u64::MAX, 0_u32..1_000_000_000)
            .prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        (0_u64..10_000_000_000).prop_map(Duration::from_nanos),
    ]
}

fn jitters() -> impl Strategy<Value = Jitter> {
    prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        (0.0..=1.0).prop_map(Jitter::Proportional),
        durations().prop_map(Jitter::Spread),
        Just(Jitter::Decorrelated),
        Just(Jitter::DecorrelatedV2),
    ]
}

fn backoffs() -> impl Strategy<Value = Backoff> {
    let shapes = prop_oneof![
        durations().prop_map(Backoff::constant),
        (durations(), durations()).prop_map(|(first, step)| Backoff::linear(first, step)),
        (durations(), any::<f64>())
            .prop_map(|(d, factor)| Backoff::exponential(d).with_factor(factor)),
        durations().prop_map(Backoff::exponential),
        durations().prop_map(Backoff::fibonacci),
        durations().prop_map(|delay| Backoff::custom(move |n| delay.saturating_mul(n))),
    ];
    (shapes, jitters(), durations())
        .prop_map(|(backoff, jitter, cap)| backoff.with_jitter(jitter).with_cap(cap))
}

/// Whether all delays keep to the cap, and their sum to the number of them.
fn stays_under(cap: Duration, delays: impl Iterator<Item = Duration>) -> Result<(), String> {
    let mut sum = Duration::ZERO;
    for (n, delay) in delays.enumerate() {
        sum = sum.saturating_add(delay);
        let count = u32::try_from(n + 1).unwrap_or(u32::MAX);
        if delay > cap || sum > cap.saturating_mul(count) {
            return Err(format!("delay {n} is {delay:?}, over {cap:?}"));
        }
    }
    Ok(())
}

/// Whether what was waited for is no longer than the policy says.
fn accepted(told: &Waits, longest: Duration) -> Result<(), String> {
    let at_once = told.stopped != Stopped::RetryAfter || told.elapsed.is_zero();
    match told.waits.iter().find(|wait| **wait > longest) {
        None if at_once => Ok(()),
        found => Err(format!("waited {found:?}, {:?} in all", told.elapsed)),
    }
}

/// What one hint leads to.
fn hinted(asked: Option<RetryAfter>, rule: RetryAfterRule, longest: Duration) -> Waits {
    let policy = RetryPolicy::builder()
        .attempts(2)
        .backoff(Backoff::constant(Duration::from_secs(1)))
        .retry_after(rule)
        .longest_wait(longest)
        .build()
        .unwrap();
    let verdict = asked.map_or(Verdict::not_done(), |asked| {
        Verdict::not_done().with_retry_after(asked.as_duration())
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(waits(policy, Dice::seeded(1), verdict))
}

fn now() -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

const LONGEST: Duration = Duration::from_secs(30);

#[test]
fn rb1_no_backoff_panics_or_leaves_its_cap() {
    let tally = buttress_testkit::tally::suite("RB1");
    each_no_backoff_panics_or_leaves_its_cap();
    tally.operations(short_or_long(100_000, 10_000_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(short_or_long(100_000, 10_000_000)))]

    /// RB1, of backoffs that were never checked too.
    fn each_no_backoff_panics_or_leaves_its_cap(
        (backoff, jitter, cap) in (backoffs(), jitters(), durations()),
        rolls in proptest::collection::vec(0.0..=1.0, 1..4),
        count in prop_oneof![9 => 1_usize..6, 1 => Just(100)],
    ) {
        let backoff = backoff.with_jitter(jitter).with_cap(cap);
        let delays = backoff.delays_with(Dice::told(rolls)).take(count);
        prop_assert_eq!(stays_under(cap, delays), Ok(()));
    }
}

#[test]
fn rb6_no_retry_after_is_waited_for_longer_than_the_policy_says() {
    let tally = buttress_testkit::tally::suite("RB6");
    each_no_retry_after_is_waited_for_longer_than_the_policy_says();
    tally.faults(short_or_long(4_000, 1_000_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(short_or_long(4_000, 1_000_000)))]

    /// RB6.
    fn each_no_retry_after_is_waited_for_longer_than_the_policy_says(
        value in prop_oneof![
            ".*", "[0-9]{1,400}", "[+-]?[0-9]{1,5}(\\.[0-9]+)?(e[0-9]{1,3})?",
            Just("1e308".to_owned()), Just("-1".to_owned()), Just("NaN".to_owned()),
            Just("9".repeat(20_000)),
            Just("Mon, 01 Jan 1601 00:00:00 GMT".to_owned()),
            Just("Fri, 31 Dec 9999 23:59:59 GMT".to_owned()),
        ],
        rule in prop_oneof![
            Just(RetryAfterRule::Exact),
            Just(RetryAfterRule::AtLeast),
            Just(RetryAfterRule::Ignore),
            durations().prop_map(|above| RetryAfterRule::Clamp { above }),
        ],
    ) {
        let told = hinted(RetryAfter::parse(&value, now()), rule, LONGEST);
        prop_assert_eq!(accepted(&told, LONGEST), Ok(()));
    }
}

/// A jitter that is put on after the cap.
#[test]
fn rb1_the_check_finds_a_planted_jitter_over_the_cap() {
    let tally = buttress_testkit::tally::suite("RB1");
    let cap = Duration::from_secs(4);
    let right = Backoff::exponential(Duration::from_secs(1))
        .with_jitter(Jitter::Proportional(0.25))
        .with_cap(cap);
    let dice = Dice::seeded(1);
    assert_eq!(
        stays_under(cap, right.delays_with(dice.clone()).take(50)),
        Ok(())
    );
    let wrong = right
        .with_jitter(Jitter::None)
        .delays()
        .map(|delay| delay.mul_f64(0.75 + 0.5 * dice.roll()));
    assert!(stays_under(cap, wrong.take(50)).is_err());
    tally.caught(1);
}

/// A policy that believes whatever it is told.
#[test]
fn rb6_the_check_finds_a_planted_belief_in_every_hint() {
    let tally = buttress_testkit::tally::suite("RB6");
    let hostile = RetryAfter::parse(&"9".repeat(20_000), now());
    let believes = hinted(hostile, RetryAfterRule::Exact, Duration::MAX);
    assert!(accepted(&believes, LONGEST).is_err());
    let gives_up = hinted(hostile, RetryAfterRule::Exact, LONGEST);
    assert_eq!(accepted(&gives_up, LONGEST), Ok(()));
    tally.caught(1);
}
