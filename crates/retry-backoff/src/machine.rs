//! The rules: after a failed attempt, is there another, and after how long. Told the time and given
//! its random numbers.

use std::time::Duration;

use buttress_core::{Class, Verdict};

use crate::{RetryPolicy, Stopped, backoff::Place, budget::Strain};

/// Where one call is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine {
    attempts: u32,
    place: Place,
}

/// How an attempt failed, as far as the rules care.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// It was made and judged so.
    Judged(Verdict),
    /// It was not made.
    Rejected { retry_after: Option<Duration> },
    /// It was dropped when its time was over.
    TimedOut,
}

impl How {
    /// What kind of load the failure speaks of.
    pub(crate) fn strain(self) -> Strain {
        match self {
            Self::TimedOut => Strain::Timeout,
            Self::Judged(verdict) if verdict.class() == Class::Unknown => Strain::Timeout,
            Self::Judged(verdict) if verdict.retry_after().is_some() => Strain::Throttled,
            Self::Judged(_) | Self::Rejected { .. } => Strain::Error,
        }
    }

    /// Whether it speaks against what was called: a refusal for good does not, and a rejection is
    /// our own.
    pub(crate) fn burdens(self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Judged(verdict) => matches!(verdict.class(), Class::NotDone | Class::Unknown),
            Self::Rejected { .. } => false,
        }
    }
}

/// What holds for this call beside the policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// It may be done twice.
    pub(crate) repeatable: bool,
    /// There is something to send again.
    pub(crate) sendable: bool,
    /// The time that is left for all of it.
    pub(crate) left: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Again, after this wait.
    Retry(Duration),
    Stop(Stopped),
}

impl Machine {
    /// Attempts that have ended.
    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt has failed.
    pub(crate) fn failed(
        &mut self,
        policy: &RetryPolicy,
        how: How,
        terms: Terms,
        roll: impl FnMut() -> f64,
    ) -> Decision {
        self.attempts = self.attempts.saturating_add(1);
        if let Some(stopped) = self.is_the_last(policy, how, terms) {
            return Decision::Stop(stopped);
        }
        match self.wait(policy, how, roll) {
            Ok(wait) if fits(wait, policy.least_time, terms.left) => Decision::Retry(wait),
            Ok(_) => Decision::Stop(Stopped::Time),
            Err(stopped) => Decision::Stop(stopped),
        }
    }

    /// Whether there can be no further attempt, however long one waits.
    fn is_the_last(&self, policy: &RetryPolicy, how: How, terms: Terms) -> Option<Stopped> {
        let over = terms.left.is_some_and(|left| left.is_zero());
        let stopped = match how {
            How::Judged(verdict) => match verdict.class() {
                Class::NotDone => None,
                Class::Unknown if terms.repeatable => None,
                Class::Unknown => Some(Stopped::Unknown),
                // A class that is not known here is not repeated.
                _ => Some(Stopped::Final),
            },
            How::TimedOut if over => Some(Stopped::Time),
            How::TimedOut if terms.repeatable => None,
            How::TimedOut => Some(Stopped::Unknown),
            How::Rejected { retry_after: None } => Some(Stopped::Rejected),
            How::Rejected { .. } => None,
        };
        let stopped = stopped.or((!terms.sendable).then_some(Stopped::Unrepeatable));
        let all_made = policy.attempts != u32::MAX && self.attempts >= policy.attempts;
        stopped.or(all_made.then_some(Stopped::Attempts))
    }

    fn wait(
        &mut self,
        policy: &RetryPolicy,
        how: How,
        mut roll: impl FnMut() -> f64,
    ) -> Result<Duration, Stopped> {
        let own = policy.backoff.next(&mut self.place, &mut roll);
        let (asked, rule) = match how {
            How::Judged(verdict) => (verdict.retry_after(), policy.retry_after),
            How::Rejected { retry_after } => (retry_after, policy.retry_after.never_early()),
            How::TimedOut => (None, policy.retry_after),
        };
        let Some(asked) = asked else { return Ok(own) };
        // The bound is for what was asked of us: the own wait has its cap, and the draw on top of
        // what was asked for is cut instead of refused.
        let bound = policy.longest_wait.max(own);
        if rule.apply(own, asked, || 0.0) > bound {
            return Err(Stopped::RetryAfter);
        }
        Ok(rule.apply(own, asked, roll).min(bound))
    }
}

/// Whether an attempt of at least `least` can follow the wait; none fits into no time at all.
fn fits(wait: Duration, least: Duration, left: Option<Duration>) -> bool {
    left.is_none_or(|left| match left.checked_sub(wait) {
        Some(after) => !after.is_zero() && after >= least,
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Backoff, Jitter, RetryAfterRule};

    /// What the rules say, written as one would explain them, with numbers of milliseconds.
    struct Naive {
        limit: u32,
        wait: u64,
        longest: u64,
        least: u64,
        made: u32,
    }

    #[derive(Clone, Copy, Debug)]
    enum Fail {
        NotDone(Option<u64>),
        Unknown,
        Final,
        Rejected(Option<u64>),
        TimedOut,
    }

    impl Naive {
        /// With a constant backoff, and a hint waited for exactly.
        fn failed(&mut self, fail: Fail, repeatable: bool, left: Option<u64>) -> Decision {
            self.made += 1;
            let mut stops = Vec::new();
            let wait = match fail {
                Fail::NotDone(hint) | Fail::Rejected(hint) => hint.unwrap_or(self.wait),
                _ => self.wait,
            };
            match fail {
                Fail::Final => stops.push(Stopped::Final),
                Fail::TimedOut if left == Some(0) => stops.push(Stopped::Time),
                Fail::Unknown | Fail::TimedOut if !repeatable => stops.push(Stopped::Unknown),
                Fail::Rejected(None) => stops.push(Stopped::Rejected),
                _ => {}
            }
            if self.made >= self.limit {
                stops.push(Stopped::Attempts);
            }
            if wait > self.longest && wait > self.wait {
                stops.push(Stopped::RetryAfter);
            }
            if left.is_some_and(|left| wait >= left || left - wait < self.least) {
                stops.push(Stopped::Time);
            }
            match stops.first() {
                Some(stopped) => Decision::Stop(*stopped),
                None => Decision::Retry(Duration::from_millis(wait)),
            }
        }
    }

    impl From<Fail> for How {
        fn from(fail: Fail) -> Self {
            let millis = |hint: Option<u64>| hint.map(Duration::from_millis);
            match fail {
                Fail::NotDone(None) => Self::Judged(Verdict::not_done()),
                Fail::NotDone(Some(hint)) => {
                    Self::Judged(Verdict::not_done().with_retry_after(Duration::from_millis(hint)))
                }
                Fail::Unknown => Self::Judged(Verdict::unknown()),
                Fail::Final => Self::Judged(Verdict::refused()),
                Fail::Rejected(hint) => Self::Rejected {
                    retry_after: millis(hint),
                },
                Fail::TimedOut => Self::TimedOut,
            }
        }
    }

    fn fails() -> impl Strategy<Value = Fail> {
        let hint = || proptest::option::of(0_u64..60);
        prop_oneof![
            4 => hint().prop_map(Fail::NotDone),
            2 => Just(Fail::Unknown),
            1 => Just(Fail::Final),
            2 => hint().prop_map(Fail::Rejected),
            2 => Just(Fail::TimedOut),
        ]
    }

    /// Whether the machine and the naive model agree on a sequence, `planted` being what the
    /// machine believes of the calls instead of the truth.
    fn agree(
        numbers: (u32, u64, u64, u64),
        sequence: &[(Fail, bool, Option<u64>)],
        planted: impl Fn(Terms) -> Terms,
    ) -> Result<(), String> {
        let (limit, wait, longest, least) = numbers;
        let policy = RetryPolicy {
            attempts: limit,
            backoff: Backoff::constant(Duration::from_millis(wait)),
            least_time: Duration::from_millis(least),
            longest_wait: Duration::from_millis(longest),
            retry_after: RetryAfterRule::Exact,
            ..RetryPolicy::default()
        };
        let mut machine = Machine::default();
        let mut naive = Naive {
            limit,
            wait,
            longest,
            least,
            made: 0,
        };
        for (fail, repeatable, left) in sequence {
            let terms = planted(Terms {
                repeatable: *repeatable,
                sendable: true,
                left: left.map(Duration::from_millis),
            });
            let got = machine.failed(&policy, (*fail).into(), terms, || 0.5);
            let expected = naive.failed(*fail, *repeatable, *left);
            if got != expected {
                return Err(format!("{got:?}, not {expected:?}, after {fail:?}"));
            }
            if let Decision::Stop(_) = got {
                break;
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn agrees_with_the_naive_model(
            numbers in (1_u32..6, 0_u64..40, 1_u64..50, 0_u64..20),
            sequence in proptest::collection::vec(
                (fails(), any::<bool>(), proptest::option::of(0_u64..100)), 1..8),
        ) {
            let result = agree(numbers, &sequence, |terms| terms);
            prop_assert!(result.is_ok(), "{result:?}");
        }
    }

    #[test]
    fn the_model_finds_a_planted_repetition_and_a_planted_sleep_past_the_deadline() {
        let unknown = [(Fail::Unknown, false, None)];
        let repeats = |terms| Terms {
            repeatable: true,
            ..terms
        };
        assert!(agree((3, 1, 9, 0), &unknown, repeats).is_err());
        let late = [(Fail::NotDone(None), false, Some(5))];
        let sleeps = |terms| Terms {
            left: None,
            ..terms
        };
        assert!(agree((3, 10, 9, 0), &late, sleeps).is_err());
    }

    #[test]
    fn four_thousand_million_failures_do_not_overflow() {
        let policy = RetryPolicy {
            attempts: u32::MAX,
            backoff: Backoff::exponential(Duration::from_secs(1)).with_jitter(Jitter::Full),
            ..RetryPolicy::default()
        };
        let mut machine = Machine {
            attempts: u32::MAX - 1,
            place: Place::default(),
        };
        let terms = Terms {
            repeatable: true,
            sendable: true,
            left: None,
        };
        for _ in 0..3 {
            let decision = machine.failed(&policy, How::TimedOut, terms, || 0.5);
            assert!(matches!(decision, Decision::Retry(_)));
        }
        assert_eq!(machine.attempts(), u32::MAX);
    }
}
