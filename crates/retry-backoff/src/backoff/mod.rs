//! How long to wait before the next attempt: a shape, a jitter and a cap.

mod delays;
mod jitter;
mod scaled;
mod shape;
#[cfg(feature = "serde")]
mod written;

use std::{sync::Arc, time::Duration};

use self::shape::Shape;
pub use self::{delays::Delays, jitter::Jitter};
pub(crate) use self::{jitter::Place, scaled::scaled};
use crate::{Dice, PolicyError};

/// How long to wait before each next attempt, as a description that calls share: it holds no
/// place, so one value serves all of them. Its iterator is [`Delays`].
///
/// `n` counts retries from 0, `u` is uniform in \[0, 1).
///
/// | made by | delay before jitter | jitter unless told otherwise |
/// | --- | --- | --- |
/// | [`Backoff::none`] | 0: the next attempt begins at once, without a timer | none |
/// | [`Backoff::constant`] | d | none |
/// | [`Backoff::linear`] | first + n · step | full |
/// | [`Backoff::exponential`] | first · factorⁿ, factor 2 | full |
/// | [`Backoff::fibonacci`] | first · 1, 1, 2, 3, 5, 8, … | full |
/// | [`Backoff::custom`] | what your function says | none |
///
/// The three that grow are capped at 20 seconds unless told otherwise. The cap comes first, then
/// the jitter, and no delay is ever over the cap. All arithmetic saturates.
///
/// ```
/// use std::time::Duration;
/// use buttress_retry_backoff::{Backoff, Jitter};
///
/// let backoff = Backoff::exponential(Duration::from_millis(100)).with_jitter(Jitter::None);
/// let delays: Vec<_> = backoff.delays().take(4).map(|delay| delay.as_millis()).collect();
/// assert_eq!(delays, [100, 200, 400, 800]);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "written::Written", into = "written::Written")
)]
pub struct Backoff {
    shape: Shape,
    jitter: Jitter,
    cap: Duration,
}

impl Backoff {
    /// The cap of the shapes that grow: 20 seconds, as in the AWS SDKs.
    pub const DEFAULT_CAP: Duration = Duration::from_secs(20);

    const fn new(shape: Shape, jitter: Jitter, cap: Duration) -> Self {
        Self { shape, jitter, cap }
    }

    /// No delay at all.
    #[must_use]
    pub const fn none() -> Self {
        Self::constant(Duration::ZERO)
    }

    /// The same delay each time.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self::new(Shape::Constant { delay }, Jitter::None, Duration::MAX)
    }

    /// `first + n · step`. `linear(d, d)` is d, 2d, 3d, …
    #[must_use]
    pub const fn linear(first: Duration, step: Duration) -> Self {
        Self::new(
            Shape::Linear { first, step },
            Jitter::Full,
            Self::DEFAULT_CAP,
        )
    }

    /// `first · 2ⁿ`; another factor by [`Backoff::with_factor`].
    #[must_use]
    pub const fn exponential(first: Duration) -> Self {
        Self::new(
            Shape::Exponential { first, factor: 2.0 },
            Jitter::Full,
            Self::DEFAULT_CAP,
        )
    }

    /// `first` times 1, 1, 2, 3, 5, 8, …
    #[must_use]
    pub const fn fibonacci(first: Duration) -> Self {
        Self::new(Shape::Fibonacci { first }, Jitter::Full, Self::DEFAULT_CAP)
    }

    /// What `delay` says; it is told how many retries there have been, from 0. It must be quick
    /// and must not panic.
    #[must_use]
    pub fn custom(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self::new(Shape::Custom(Arc::new(delay)), Jitter::None, Duration::MAX)
    }

    /// The same with another jitter.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The same, never longer than `cap`, jitter included.
    #[must_use]
    pub const fn with_cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// The same growing by another factor, from 1 to 1000; only an exponential one has a factor.
    #[must_use]
    pub fn with_factor(mut self, by: f64) -> Self {
        if let Shape::Exponential { factor, .. } = &mut self.shape {
            *factor = by;
        }
        self
    }

    /// The delays one after the other, without end, with the thread's random numbers.
    #[must_use]
    pub fn delays(&self) -> Delays {
        self.delays_with(Dice::random())
    }

    /// The same with random numbers of your choice.
    #[must_use]
    pub fn delays_with(&self, dice: Dice) -> Delays {
        Delays::new(self.clone(), dice)
    }

    /// The next delay, and the place moved on.
    pub(crate) fn next(&self, place: &mut Place, roll: impl FnOnce() -> f64) -> Duration {
        let retry = place.retry;
        place.retry = retry.saturating_add(1);
        let nominal = self.shape.nominal(retry).min(self.cap);
        let first = self.shape.first();
        let drawn = self.jitter.draw(nominal, first, self.cap, place, roll);
        drawn.min(self.cap)
    }

    /// The first delay of a constant one or of one that doubles, and whether it is the former.
    #[cfg(feature = "tower")]
    pub(crate) fn simple(&self) -> Option<(Duration, bool)> {
        match self.shape {
            Shape::Constant { delay } => Some((delay, true)),
            Shape::Exponential { first, .. } if self.shape.doubles() => Some((first, false)),
            _ => None,
        }
    }

    /// Its jitter and its cap.
    #[cfg(feature = "tower")]
    pub(crate) const fn bounds(&self) -> (Jitter, Duration) {
        (self.jitter, self.cap)
    }

    /// What of it cannot work.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if self.cap.is_zero() {
            return Err(PolicyError::new("backoff.cap", "longer than 0"));
        }
        if let Shape::Exponential { factor, .. } = self.shape
            && !(1.0..=1000.0).contains(&factor)
        {
            return Err(PolicyError::new("backoff.factor", "from 1 to 1000"));
        }
        match self.jitter {
            Jitter::Proportional(part) if !(0.0..=1.0).contains(&part) => {
                Err(PolicyError::new("backoff.jitter", "from 0 to 1"))
            }
            Jitter::Decorrelated | Jitter::DecorrelatedV2 if !self.shape.doubles() => {
                Err(PolicyError::new(
                    "backoff.jitter",
                    "one that is not decorrelated, unless the backoff is exponential with factor 2",
                ))
            }
            _ => Ok(()),
        }
    }
}

impl IntoIterator for Backoff {
    type Item = Duration;
    type IntoIter = Delays;

    fn into_iter(self) -> Delays {
        Delays::new(self, Dice::random())
    }
}

impl IntoIterator for &Backoff {
    type Item = Duration;
    type IntoIter = Delays;

    fn into_iter(self) -> Delays {
        self.delays()
    }
}
