//! What a response to come holds of its handle.

use std::time::Duration;

use crate::{Backoff, Jitter, Retry, RetryAfterRule, RetryPolicy};

/// A handle, or what it says, where that is little: no limits of time, no budget, no listeners, no
/// dice of its own, and numbers of the usual kind. Sharing a handle means counting who has it, with
/// two atomic operations a call, which cost more than all the rest of a call that succeeds.
#[derive(Debug)]
pub(super) struct Held {
    retry: Option<Retry>,
    alone: Alone,
}

impl Held {
    /// The policy is copied whether it says something or not: one copy, whatever is true.
    #[inline(always)]
    pub(super) fn of(retry: Option<&Retry>, alone: &Alone) -> Self {
        Self {
            retry: retry.cloned(),
            alone: *alone,
        }
    }

    /// The handle, if it was one.
    #[inline(always)]
    pub(super) const fn retry(&self) -> Option<&Retry> {
        self.retry.as_ref()
    }

    /// The handle; where there was none, one is made, for an attempt has failed. It has no name,
    /// and nobody who would hear it.
    pub(super) fn get(&mut self) -> &Retry {
        let alone = self.alone;
        self.retry
            .get_or_insert_with(|| Retry::new("", alone.policy()))
    }
}

/// So small that it is done in place when there is no handle.
impl Drop for Held {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(retry) = self.retry.take() {
            forget(retry);
        }
    }
}

#[inline(never)]
fn forget(retry: Retry) {
    drop(retry);
}

/// A policy in four words, copied into each call: words, because they go through registers, and
/// what is smaller goes through memory, where it is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alone {
    first_nanos: u64,
    cap_nanos: u64,
    longest_wait_nanos: u64,
    /// The number of attempts above 32 bits of choices.
    attempts_and_choices: u64,
}

/// The choices' places: a byte for the jitter, one for the rule, and two bits.
const RULE: u32 = 8;
const CONSTANT: u64 = 1 << 16;
const KEEP_ERRORS: u64 = 1 << 17;
const ATTEMPTS: u32 = 32;

const JITTERS: [Jitter; 5] = [
    Jitter::None,
    Jitter::Full,
    Jitter::Equal,
    Jitter::Decorrelated,
    Jitter::DecorrelatedV2,
];
const RULES: [RetryAfterRule; 3] = [
    RetryAfterRule::AtLeast,
    RetryAfterRule::Exact,
    RetryAfterRule::Ignore,
];

impl Alone {
    /// What stands beside a handle. No policy is so, for it has one attempt at least.
    const NOTHING: Self = Self {
        first_nanos: 0,
        cap_nanos: 0,
        longest_wait_nanos: 0,
        attempts_and_choices: 0,
    };

    /// What `retry` says, if it fits: all of it, to the nanosecond. Else nothing.
    pub(super) fn of(retry: &Retry) -> Self {
        Self::whole(retry).unwrap_or(Self::NOTHING)
    }

    /// Whether it says all.
    #[inline(always)]
    pub(super) const fn is_whole(&self) -> bool {
        self.attempts_and_choices > 0
    }

    fn whole(retry: &Retry) -> Option<Self> {
        let policy = retry.is_policy_alone().then(|| retry.policy())?;
        let (first, constant) = policy.backoff.simple()?;
        let (jitter, cap) = policy.backoff.bounds();
        let jitter = (0_u64..).zip(JITTERS).find(|(_, it)| *it == jitter)?.0;
        let rule = policy.retry_after;
        let rule = (0_u64..).zip(RULES).find(|(_, it)| *it == rule)?.0;
        let flag = |is: bool, flag: u64| if is { flag } else { 0 };
        Some(Self {
            first_nanos: nanos(first)?,
            cap_nanos: nanos(cap)?,
            longest_wait_nanos: nanos(policy.longest_wait)?,
            attempts_and_choices: u64::from(policy.attempts) << ATTEMPTS
                | jitter
                | rule << RULE
                | flag(constant, CONSTANT)
                | flag(policy.keep_errors, KEEP_ERRORS),
        })
    }

    #[cold]
    fn policy(self) -> RetryPolicy {
        let word = self.attempts_and_choices;
        let byte = |at: u32| usize::from((word >> at).to_le_bytes()[0]);
        let first = duration(self.first_nanos);
        let backoff = if word & CONSTANT > 0 {
            Backoff::constant(first)
        } else {
            Backoff::exponential(first)
        };
        let jitter = JITTERS.get(byte(0)).copied().unwrap_or(Jitter::Full);
        let backoff = backoff.with_jitter(jitter);
        let rule = RULES.get(byte(RULE)).copied();
        RetryPolicy {
            attempts: u32::try_from(word >> ATTEMPTS).unwrap_or(u32::MAX),
            backoff: backoff.with_cap(duration(self.cap_nanos)),
            total_time: None,
            attempt_timeout: None,
            least_time: Duration::ZERO,
            retry_after: rule.unwrap_or(RetryAfterRule::AtLeast),
            longest_wait: duration(self.longest_wait_nanos),
            keep_errors: word & KEEP_ERRORS > 0,
        }
    }
}

/// The longest of all stands for itself: it is the cap of what has none.
const FOREVER: u64 = u64::MAX;

fn nanos(duration: Duration) -> Option<u64> {
    if duration == Duration::MAX {
        return Some(FOREVER);
    }
    let nanos = u64::try_from(duration.as_nanos()).ok();
    nanos.filter(|nanos| *nanos != FOREVER)
}

const fn duration(nanos: u64) -> Duration {
    if nanos == FOREVER {
        Duration::MAX
    } else {
        Duration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Dice;

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            Just(Duration::from_nanos(u64::MAX)),
            any::<u64>().prop_map(Duration::from_nanos),
            any::<u64>().prop_map(Duration::from_secs),
        ]
    }

    fn backoffs() -> impl Strategy<Value = Backoff> {
        let jitters = prop_oneof![
            Just(Jitter::None),
            Just(Jitter::Full),
            Just(Jitter::Equal),
            Just(Jitter::Proportional(0.25)),
            Just(Jitter::Spread(Duration::from_secs(1))),
            Just(Jitter::Decorrelated),
            Just(Jitter::DecorrelatedV2),
        ];
        (0..6, durations(), durations(), jitters).prop_map(|(kind, first, cap, jitter)| {
            let backoff = match kind {
                0 => Backoff::constant(first),
                1 => Backoff::linear(first, cap),
                2 => Backoff::fibonacci(first),
                3 => Backoff::exponential(first).with_factor(3.0),
                4 => Backoff::custom(|_| Duration::ZERO),
                _ => Backoff::exponential(first),
            };
            backoff.with_jitter(jitter).with_cap(cap)
        })
    }

    proptest! {
        #[test]
        fn a_policy_is_held_alone_whole_or_not_at_all(
            backoff in backoffs(),
            attempts in 1..=u32::MAX,
            longest_wait in durations(),
            rule in 0..4,
            keep_errors: bool,
        ) {
            let policy = RetryPolicy {
                attempts,
                backoff,
                longest_wait,
                keep_errors,
                retry_after: match rule {
                    0 => RetryAfterRule::Exact,
                    1 => RetryAfterRule::AtLeast,
                    2 => RetryAfterRule::Ignore,
                    _ => RetryAfterRule::Clamp { above: longest_wait },
                },
                ..RetryPolicy::default()
            };
            let alone = Alone::of(&Retry::new("test", policy.clone()));
            if alone.is_whole() {
                prop_assert_eq!(alone.policy(), policy);
            }
        }
    }

    #[test]
    fn the_default_policy_is_held_alone_and_what_limits_or_listens_is_not() {
        let retry = || Retry::new("test", RetryPolicy::default());
        assert!(Alone::of(&retry()).is_whole());
        assert!(!Alone::of(&retry().with_observer(|_: &crate::Event| {})).is_whole());
        assert!(!Alone::of(&retry().with_dice(Dice::seeded(1))).is_whole());
        let limited = RetryPolicy::builder().total_time(Duration::from_secs(1));
        assert!(!Alone::of(&Retry::new("test", limited.build().unwrap())).is_whole());
    }
}
