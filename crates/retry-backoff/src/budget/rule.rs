//! Which rule a budget follows, with its numbers.

use std::time::Duration;

use super::{Quota, Share, State, Throttle, Tokens};
use crate::PolicyError;

/// How a budget is filled and spent. Four rules that are in wide use; each is kept in whole numbers.
///
/// | rule | filled | spent | a retry is refused | ranges |
/// | --- | --- | --- | --- | --- |
/// | `Tokens` (Finagle's `RetryBudget`) | `ratio` a call, and `per_second` always; both for `ttl` | 1 a retry | without a whole token | ttl 1 to 60 s; per second to 1,000,000; ratio 0 to 1000 |
/// | `Throttle` (gRPC A6) | `ratio` a success, in thousandths, up to `max_tokens` | 1 a failed attempt | at half of `max_tokens` or less | tokens 1 to 1000; ratio over 0 to 1000 |
/// | `Quota` (AWS SDKs) | the cost of its last retry by a call that succeeds, 1 by one without a retry | the cost of what failed | when less than its cost is left | capacity from 1; costs 1 to capacity |
/// | `Share` (Envoy) | | | when retries under way would be more than `percent` of the calls under way, and more than `at_least` | percent 0 to 100 |
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum BudgetRule {
    /// Tokens that calls bring in, and that expire.
    Tokens {
        /// How long a token, and a token's absence, lasts.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "ttl_ms", with = "crate::policy::millis")
        )]
        ttl: Duration,
        /// Retries that are always allowed, per second, so that a caller with few calls has some.
        per_second: u32,
        /// Retries per call.
        ratio: f64,
    },
    /// Tokens that failures take away and successes bring back.
    Throttle {
        /// When full.
        max_tokens: u32,
        /// What a success brings back; digits after the third are cut off, as gRPC does.
        ratio: f64,
    },
    /// Capacity that retries borrow, and bring back when they succeed. A call that is dropped
    /// brings back what its last retry took.
    Quota {
        /// When full.
        capacity: u32,
        /// A retry after an ordinary error.
        error: u32,
        /// A retry after a timeout, or after a failure whose effect is unknown.
        timeout: u32,
        /// A retry after the other side asked to be left alone for a while.
        throttled: u32,
    },
    /// A share of what is under way.
    Share {
        /// Retries under way, in per cent of the calls under way.
        percent: u32,
        /// So many are always allowed.
        at_least: u32,
    },
}

impl BudgetRule {
    /// Finagle's defaults: a fifth of the calls and 10 a second, for 10 seconds.
    #[must_use]
    pub const fn tokens() -> Self {
        Self::Tokens {
            ttl: Duration::from_secs(10),
            per_second: 10,
            ratio: 0.2,
        }
    }

    /// The AWS SDKs' numbers: capacity 500, costs 14, after throttling 5.
    #[must_use]
    pub const fn quota() -> Self {
        Self::Quota {
            capacity: 500,
            error: 14,
            timeout: 14,
            throttled: 5,
        }
    }

    /// Envoy's defaults: a fifth, and at least 3.
    #[must_use]
    pub const fn share() -> Self {
        Self::Share {
            percent: 20,
            at_least: 3,
        }
    }

    pub(super) fn state(self) -> Result<State, PolicyError> {
        match self {
            Self::Tokens {
                ttl,
                per_second,
                ratio,
            } => {
                let range = Duration::from_secs(1)..=Duration::from_secs(60);
                if !range.contains(&ttl) {
                    return Err(PolicyError::new("budget.ttl", "from 1 to 60 seconds"));
                }
                if per_second > 1_000_000 {
                    return Err(PolicyError::new("budget.per_second", "from 0 to 1000000"));
                }
                if !(0.0..=1000.0).contains(&ratio) {
                    return Err(PolicyError::new("budget.ratio", "from 0 to 1000"));
                }
                Ok(State::Tokens(Tokens::new(
                    ttl,
                    per_second,
                    parts((ratio * 1e6).round()),
                )))
            }
            Self::Throttle { max_tokens, ratio } => {
                if !(1..=1000).contains(&max_tokens) {
                    return Err(PolicyError::new("budget.max_tokens", "from 1 to 1000"));
                }
                // A hair more than what was written, for .546 is held as .54599….
                let thousandths = parts(ratio.mul_add(1e3, 1e-6));
                if !(0.0..=1000.0).contains(&ratio) || thousandths == 0 {
                    return Err(PolicyError::new("budget.ratio", "from 0.001 to 1000"));
                }
                Ok(State::Throttle(Throttle::new(max_tokens, thousandths)))
            }
            Self::Quota {
                capacity,
                error,
                timeout,
                throttled,
            } => {
                for (field, cost) in [
                    ("budget.error", error),
                    ("budget.timeout", timeout),
                    ("budget.throttled", throttled),
                ] {
                    // A retry that costs more than there can ever be would never be made.
                    if !(1..=capacity).contains(&cost) {
                        return Err(PolicyError::new(field, "from 1 to capacity"));
                    }
                }
                Ok(State::Quota(Quota::new(
                    capacity, error, timeout, throttled,
                )))
            }
            Self::Share { percent, at_least } => {
                if percent > 100 {
                    return Err(PolicyError::new("budget.percent", "from 0 to 100"));
                }
                Ok(State::Share(Share::new(percent, at_least)))
            }
        }
    }
}

/// The whole part; the number has been checked, or is about to be.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a double saturates, and cuts off what is not whole"
)]
fn parts(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_6_digits_after_the_third_are_cut_off_and_no_others() {
        for (ratio, thousandths) in [
            (0.5466, 546),
            (0.546, 546),
            (0.1, 100),
            (0.001, 1),
            (0.29, 290),
        ] {
            let rule = BudgetRule::Throttle {
                max_tokens: 10,
                ratio,
            };
            let state = format!("{:?}", rule.state().unwrap());
            assert!(
                state.ends_with(&format!("ratio: {thousandths} }})")),
                "{state}"
            );
        }
    }
}
