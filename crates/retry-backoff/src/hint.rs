//! What becomes of a server's `Retry-After`.

use std::time::Duration;

use crate::backoff::scaled;

/// What to do when the other side said when to come back. `own` is the delay that the backoff
/// gives, `asked` the other side's.
///
/// Whatever the rule, a wait longer than the policy's `longest_wait` is not waited for at all, and
/// neither is one that ends after the deadline: the call gives up at once and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RetryAfterRule {
    /// Exactly `asked`, as in gRPC's pushback.
    Exact,
    /// `asked`, but not under `own` and not more than `above` over it, as the AWS SDKs do with
    /// five seconds.
    Clamp {
        /// How much longer than the own delay it may be.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "above_ms", with = "crate::policy::millis")
        )]
        above: Duration,
    },
    /// The longer of `own` and a draw between `asked` and one and a half times of it, so that
    /// those who were sent away together do not come back together; Envoy's rule. The default.
    AtLeast,
    /// `own`, as if nothing had been asked. For a rejection (an open breaker, a used-up limit),
    /// which must not be hammered, it means the same as `AtLeast`; and so does `Clamp`.
    Ignore,
}

impl RetryAfterRule {
    /// The rule for rejections: never earlier than asked.
    pub(crate) fn never_early(self) -> Self {
        match self {
            Self::Exact => Self::Exact,
            Self::AtLeast | Self::Clamp { .. } | Self::Ignore => Self::AtLeast,
        }
    }

    pub(crate) fn apply(
        self,
        own: Duration,
        asked: Duration,
        roll: impl FnOnce() -> f64,
    ) -> Duration {
        match self {
            Self::Exact => asked,
            Self::Clamp { above } => asked.max(own).min(own.saturating_add(above)),
            Self::AtLeast => own.max(scaled(asked, roll().mul_add(0.5, 1.0)).max(asked)),
            Self::Ignore => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_never_asked_again_before_its_time() {
        let (own, asked) = (Duration::from_millis(5), Duration::from_secs(10));
        for rule in [
            RetryAfterRule::Exact,
            RetryAfterRule::Clamp {
                above: Duration::from_secs(1),
            },
            RetryAfterRule::AtLeast,
            RetryAfterRule::Ignore,
        ] {
            let waited = rule.never_early().apply(own, asked, || 0.0);
            assert_eq!(waited, asked, "{rule:?}");
        }
    }

    #[test]
    fn the_longest_hint_does_not_panic() {
        let waited = RetryAfterRule::AtLeast.apply(Duration::MAX, Duration::MAX, || 0.9);
        assert_eq!(waited, Duration::MAX);
        let above = Duration::MAX;
        let waited = RetryAfterRule::Clamp { above }.apply(Duration::MAX, Duration::MAX, || 0.9);
        assert_eq!(waited, Duration::MAX);
    }
}
