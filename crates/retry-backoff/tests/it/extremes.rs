//! Any policy, any number of attempts, any hint: no panic, and no delay out of its bounds.

use std::time::Duration;

use buttress_core::{RetryAfter, Verdict};
use buttress_retry_backoff::{Backoff, Dice, Jitter, RetryAfterRule, RetryPolicy, Stopped};
use proptest::prelude::*;

use crate::waits::waits;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// RB1, of backoffs that were never checked too.
    #[test]
    fn rb1_no_backoff_panics_or_leaves_its_cap(
        (backoff, jitter, cap) in (backoffs(), jitters(), durations()),
        rolls in proptest::collection::vec(0.0..=1.0, 1..4),
    ) {
        let backoff = backoff.with_jitter(jitter).with_cap(cap);
        for delay in backoff.delays_with(Dice::told(rolls)).take(100) {
            prop_assert!(delay <= cap);
        }
    }

    /// RB6.
    #[test]
    fn rb6_no_retry_after_is_waited_for_longer_than_the_policy_says(
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
        let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let asked = RetryAfter::parse(&value, now);
        let longest = Duration::from_secs(30);
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
        let told = runtime.block_on(waits(policy, Dice::seeded(1), verdict));
        match told.stopped {
            Stopped::RetryAfter => prop_assert_eq!(told.elapsed, Duration::ZERO),
            _ => prop_assert!(told.waits.iter().all(|wait| *wait <= longest)),
        }
    }
}
