//! How delays are drawn apart, so that callers who failed together do not come back together.

use std::time::Duration;

use super::{scaled, scaled::seconds};

/// How a delay is drawn from its nominal value v. `u` is uniform in \[0, 1).
///
/// | jitter | delay | mean | source |
/// | --- | --- | --- | --- |
/// | `None` | v | v | |
/// | `Full` | u · v | v/2 | AWS Architecture Blog, *Exponential Backoff and Jitter*, 2015 |
/// | `Equal` | v/2 + u · v/2 | ¾ v | the same |
/// | `Proportional(p)` | v · (1 − p + 2 p u) | v | Polly with ¼, gRPC (A6) with ⅕, resilience4j with ½ |
/// | `Spread(d)` | v − d + 2 d u, never under 0 | v | failsafe-go's jitter by a duration, and its delay from a range |
/// | `Decorrelated` | first + u · (3 · previous − first), previous = first at the start | grows | AWS Architecture Blog, the same |
/// | `DecorrelatedV2` | first · (f(n+u) − f of the previous) / 1.4, f(t) = 2ᵗ · tanh(√(4t)) | about first · 2ⁿ | Polly's Decorrelated Jitter V2 |
///
/// The decorrelated ones are only for an exponential backoff with factor 2: they grow by
/// themselves. No jitter draws beyond the backoff's cap.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// The nominal delay: callers who failed together come back together.
    None,
    /// Anything up to the nominal delay. Spreads best, and is half as long on average.
    Full,
    /// Half of the nominal delay is certain, the other half is drawn.
    Equal,
    /// The nominal delay give or take a part of it, from 0 to 1. Keeps the mean; at the cap, half
    /// of the delays are the cap.
    Proportional(f64),
    /// The nominal delay give or take so long. A constant delay with it is one from a range.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "spread_ms", with = "crate::policy::millis")
    )]
    Spread(Duration),
    /// Up to three times the delay before: the AWS blog's "decorrelated".
    Decorrelated,
    /// A smooth distribution with about exponential medians (0.90, 1.14, 2.01, 4.02, 8.01 times
    /// the first delay): Polly's, and cockatiel's default.
    DecorrelatedV2,
}

/// Where a call is in its backoff.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Place {
    /// Retries that have been given a delay.
    pub(super) retry: u32,
    /// What the decorrelated jitters carry on: the delay before in seconds, or f of it.
    carried: f64,
}

impl Jitter {
    pub(super) fn draw(
        self,
        nominal: Duration,
        first: Duration,
        cap: Duration,
        place: &mut Place,
        roll: impl FnOnce() -> f64,
    ) -> Duration {
        match self {
            Self::None => nominal,
            Self::Full => scaled(nominal, roll()).min(nominal),
            Self::Equal => scaled(nominal, roll().mul_add(0.5, 0.5)).min(nominal),
            Self::Proportional(part) => scaled(nominal, 1.0 - part + 2.0 * part * roll()),
            Self::Spread(spread) => nominal
                .saturating_add(scaled(spread, 2.0 * roll()))
                .saturating_sub(spread),
            Self::Decorrelated => {
                let first = first.as_secs_f64();
                let before = place.carried.max(first);
                let drawn = seconds((before * 3.0 - first).mul_add(roll(), first));
                let drawn = drawn.min(cap);
                place.carried = drawn.as_secs_f64();
                drawn
            }
            Self::DecorrelatedV2 => {
                let at = f64::from(place.retry.saturating_sub(1)) + roll();
                let grown = at.exp2() * (4.0 * at).sqrt().tanh();
                let before = std::mem::replace(&mut place.carried, grown);
                if grown.is_finite() {
                    scaled(first, (grown - before) / 1.4)
                } else {
                    scaled(first, f64::INFINITY)
                }
            }
        }
    }
}
