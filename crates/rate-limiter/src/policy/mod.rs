//! What a user chooses: how many permits, per how long, counted how.

mod bandwidth;
#[cfg(feature = "serde")]
mod written;

use std::{num::NonZeroU32, time::Duration};

pub use self::bandwidth::{Algorithm, Bandwidth};
use crate::PolicyError;

/// One or several bandwidths, all of which must allow. Checked when it is built.
///
/// | what | default | range |
/// | --- | --- | --- |
/// | algorithm | token bucket (GCRA), refilled greedily | [`Algorithm`] |
/// | permits in a period | | 1 to 1,000,000,000; at most one a nanosecond |
/// | period | | 1 ns to 366 days |
/// | burst | as many as permits in a period | 1 permit to what is refilled within 100 years; token bucket only |
/// | permits of a sliding log | | 1 to 10,000 |
/// | bandwidths | 1 | 1 to 8 |
///
/// ```
/// use buttress_rate_limiter::{Bandwidth, Quota};
///
/// let steady = Quota::per_second(100)?; // and up to 100 at once
/// let bursty = Quota::new(Bandwidth::per_second(100).burst(500))?;
/// let both = Quota::per_second(10)?.and(Bandwidth::per_day(10_000).fixed_window())?;
/// assert_eq!(both.bandwidths().len(), 2);
/// # drop((steady, bursty));
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    bandwidths: Vec<Bandwidth>,
}

impl Quota {
    /// The most bandwidths of one quota.
    pub const MOST: usize = 8;

    /// One bandwidth.
    ///
    /// # Errors
    ///
    /// What cannot work: the field, and its range.
    pub fn new(bandwidth: Bandwidth) -> Result<Self, PolicyError> {
        bandwidth.check()?;
        Ok(Self {
            bandwidths: vec![bandwidth],
        })
    }

    /// The same, and this bandwidth must allow as well: one decision over all of them, which takes
    /// from all or from none.
    ///
    /// # Errors
    ///
    /// As [`Quota::new`], and beyond [`Quota::MOST`] of them.
    pub fn and(mut self, bandwidth: Bandwidth) -> Result<Self, PolicyError> {
        bandwidth.check()?;
        if self.bandwidths.len() >= Self::MOST {
            return Err(PolicyError::new("bandwidths", "1 to 8"));
        }
        self.bandwidths.push(bandwidth);
        Ok(self)
    }

    /// A token bucket of so many permits a second, and as many at once.
    ///
    /// # Errors
    ///
    /// As [`Quota::new`].
    pub fn per_second(permits: u64) -> Result<Self, PolicyError> {
        Self::new(Bandwidth::per_second(permits))
    }

    /// A token bucket of so many permits a minute, and as many at once.
    ///
    /// # Errors
    ///
    /// As [`Quota::new`].
    pub fn per_minute(permits: u64) -> Result<Self, PolicyError> {
        Self::new(Bandwidth::per_minute(permits))
    }

    /// A token bucket of so many permits in `period`, and as many at once.
    ///
    /// # Errors
    ///
    /// As [`Quota::new`].
    pub fn per(permits: u64, period: Duration) -> Result<Self, PolicyError> {
        Self::new(Bandwidth::per(permits, period))
    }

    /// What each of so many instances may give out by itself.
    pub(crate) fn shared_by(&self, instances: NonZeroU32) -> Result<Self, PolicyError> {
        let bandwidths = self.bandwidths.iter().map(|it| it.shared_by(instances));
        let bandwidths: Vec<_> = bandwidths.collect();
        for bandwidth in &bandwidths {
            let too_little = |_| {
                let range = "instances of which each has a permit in 366 days";
                PolicyError::new("when_down.share", range)
            };
            bandwidth.check().map_err(too_little)?;
        }
        Ok(Self { bandwidths })
    }

    /// What must allow.
    pub fn bandwidths(&self) -> &[Bandwidth] {
        &self.bandwidths
    }
}

/// What becomes of what was used, when a quota is changed while calls go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Carry {
    /// As many permits are left as were (never more than the new quota holds), fractions included.
    #[default]
    AsItIs,
    /// All permits are there again.
    Reset,
    /// The same share of the permits is left.
    Proportional,
    /// As many permits are left as were, and as many as the new quota holds more, or less.
    Additive,
}
