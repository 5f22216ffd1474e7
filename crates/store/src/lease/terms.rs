//! For how long something is claimed, and how often that may be extended.

use std::time::Duration;

/// For how long something is claimed, and how often that may be extended.
///
/// | knob | default | range |
/// | --- | --- | --- |
/// | length | 30 s | 100 ms to a day |
/// | ceiling | 10 lengths | 1 to 1000 |
///
/// It is extended each third of its length, and given up a tenth before its end: hosts' clocks run
/// at different speeds, and a pause may come between the look at the clock and the deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    length: Duration,
    ceiling: u32,
}

impl LeaseTerms {
    /// Leases of this length.
    ///
    /// # Errors
    ///
    /// [`LeaseTermsError`], when it is not between 100 ms and a day.
    pub fn new(length: Duration) -> Result<Self, LeaseTermsError> {
        let range = Duration::from_millis(100)..=Duration::from_secs(86_400);
        if !range.contains(&length) {
            return Err(LeaseTermsError::Length { length });
        }
        let ceiling = Self::default().ceiling;
        Ok(Self { length, ceiling })
    }

    /// The same, held for at most `ceiling` lengths however long the work goes on, so that a work
    /// that hangs does not hold it for ever.
    ///
    /// # Errors
    ///
    /// [`LeaseTermsError`], when it is not between 1 and 1000.
    pub const fn with_ceiling(mut self, ceiling: u32) -> Result<Self, LeaseTermsError> {
        if ceiling == 0 || ceiling > 1000 {
            return Err(LeaseTermsError::Ceiling { ceiling });
        }
        self.ceiling = ceiling;
        Ok(self)
    }

    /// How long a claim holds without being extended. This is what the store is told.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// How many lengths it may be held.
    #[must_use]
    pub const fn ceiling(&self) -> u32 {
        self.ceiling
    }
}

/// Half a minute, and five minutes at most.
impl Default for LeaseTerms {
    fn default() -> Self {
        Self {
            length: Duration::from_secs(30),
            ceiling: 10,
        }
    }
}

/// Terms that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseTermsError {
    /// The length.
    #[error("length: {length:?} is not between 100 ms and a day")]
    Length {
        /// What was given.
        length: Duration,
    },
    /// The ceiling.
    #[error("ceiling: {ceiling} is not between 1 and 1000 lengths")]
    Ceiling {
        /// What was given.
        ceiling: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_that_cannot_work_are_refused() {
        for length in [Duration::ZERO, Duration::MAX] {
            assert!(LeaseTerms::new(length).is_err());
        }
        for ceiling in [0, 1001] {
            assert!(LeaseTerms::default().with_ceiling(ceiling).is_err());
        }
        assert!(LeaseTerms::default().with_ceiling(1).is_ok());
    }
}
