//! What a user chooses. What cannot work does not build.

#[cfg(feature = "serde")]
mod written;

use std::time::Duration;

use buttress_store::LeaseTerms;

use crate::PolicyError;

const DAY: Duration = Duration::from_secs(86_400);

/// For how long keys are held and kept, and what happens at the edges.
///
/// | field | default | allowed |
/// | --- | --- | --- |
/// | lease | 30 s, extended by a heartbeat up to 10 leases | 100 ms to a day, 1 to 1000 leases |
/// | retention | 24 h | 1 s to 10 years |
/// | retry after | 1 s | 1 ms to 1 h |
/// | longest outcome | 256 KiB | 1 byte to 16 MiB |
/// | longest progress: the outputs of all phases | 64 KiB | 1 byte to 1 MiB |
/// | longest request that is kept | 64 KiB | 1 byte to 1 MiB |
/// | patience | 2 s | up to 1 min |
/// | abandoned | in doubt | see [`Abandoned`] |
/// | when the store is down | refuse | see [`WhenDown`] |
///
/// ```
/// use std::time::Duration;
/// use buttress_idempotency::Policy;
///
/// let policy = Policy::builder().retention(Duration::from_secs(7 * 86_400)).build()?;
/// # let _ = policy;
/// let wrong = Policy::builder().longest_outcome(0).build();
/// assert_eq!(wrong.unwrap_err().field(), "longest_outcome");
/// # Ok::<(), buttress_idempotency::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    lease: LeaseTerms,
    retention: Duration,
    retry_after: Duration,
    longest_outcome: usize,
    longest_progress: usize,
    longest_request: usize,
    patience: Duration,
    abandoned: Abandoned,
    when_down: WhenDown,
}

/// What becomes of a key whose guard was dropped without a verdict: the work panicked, or its
/// future was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Abandoned {
    /// Nobody knows whether the work had its effect, so the key is in doubt until its lease is
    /// over; the next who comes then does the work.
    #[default]
    Doubt,
    /// It is given back at once. Only for work that has no effect until it is completed.
    Release,
}

/// What happens when the store cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WhenDown {
    /// Nothing is done, and an error says so: nobody is charged twice.
    #[default]
    Refuse,
    /// The work is done without protection.
    Proceed,
}

impl Policy {
    /// To choose.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// For how long a key is held, and how often that is extended.
    #[must_use]
    pub const fn lease(&self) -> LeaseTerms {
        self.lease
    }

    /// For how long an outcome is kept.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        self.retention
    }

    /// After how long a duplicate is told to come back, at most.
    #[must_use]
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// The most bytes of an outcome.
    #[must_use]
    pub const fn longest_outcome(&self) -> usize {
        self.longest_outcome
    }

    /// The most bytes of all phases of one key, with their names.
    #[must_use]
    pub const fn longest_progress(&self) -> usize {
        self.longest_progress
    }

    /// The most bytes of a request that is kept.
    #[must_use]
    pub const fn longest_request(&self) -> usize {
        self.longest_request
    }

    /// For how long it is tried to record an outcome while the store does not answer.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        self.patience
    }

    /// What becomes of a key whose guard was dropped.
    #[must_use]
    pub const fn abandoned(&self) -> Abandoned {
        self.abandoned
    }

    /// What happens when the store cannot be asked.
    #[must_use]
    pub const fn when_down(&self) -> WhenDown {
        self.when_down
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease: LeaseTerms::default(),
            retention: DAY,
            retry_after: Duration::from_secs(1),
            longest_outcome: 256 * 1024,
            longest_progress: 64 * 1024,
            longest_request: 64 * 1024,
            patience: Duration::from_secs(2),
            abandoned: Abandoned::default(),
            when_down: WhenDown::default(),
        }
    }
}

/// Builds a [`Policy`]. The fields, their defaults and their ranges are in its table.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct PolicyBuilder {
    policy: Policy,
}

impl PolicyBuilder {
    /// For how long a key is held without a sign of life, and for how many times that in all.
    /// A worker that dies keeps its key for so long.
    pub const fn lease(mut self, terms: LeaseTerms) -> Self {
        self.policy.lease = terms;
        self
    }

    /// For how long an outcome is kept. Longer than anybody retries: a key that comes later is a
    /// new request.
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.policy.retention = retention;
        self
    }

    /// After how long a duplicate is told to come back; sooner when the lease is over sooner. A key
    /// in doubt says when its lease is over.
    pub const fn retry_after(mut self, retry_after: Duration) -> Self {
        self.policy.retry_after = retry_after;
        self
    }

    /// The most bytes of an outcome.
    pub const fn longest_outcome(mut self, bytes: usize) -> Self {
        self.policy.longest_outcome = bytes;
        self
    }

    /// The most bytes of all phases of one key, with their names: each phase writes all of them.
    pub const fn longest_progress(mut self, bytes: usize) -> Self {
        self.policy.longest_progress = bytes;
        self
    }

    /// The most bytes of a request that is kept for a completer.
    pub const fn longest_request(mut self, bytes: usize) -> Self {
        self.policy.longest_request = bytes;
        self
    }

    /// For how long it is tried again to record an outcome, when the store does not answer. The
    /// work has been done by then: what is not recorded may be done again.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.policy.patience = patience;
        self
    }

    /// What becomes of a key whose guard was dropped without a verdict.
    pub const fn abandoned(mut self, abandoned: Abandoned) -> Self {
        self.policy.abandoned = abandoned;
        self
    }

    /// What happens when the store cannot be asked.
    pub const fn when_down(mut self, when_down: WhenDown) -> Self {
        self.policy.when_down = when_down;
        self
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], which names the first field that is out of its range.
    pub fn build(self) -> Result<Policy, PolicyError> {
        let policy = self.policy;
        let checks = [
            (
                (Duration::from_secs(1)..=DAY * 3650).contains(&policy.retention),
                PolicyError::new("retention", "between 1 s and 3650 days"),
            ),
            (
                (Duration::from_millis(1)..=Duration::from_secs(3600))
                    .contains(&policy.retry_after),
                PolicyError::new("retry_after", "between 1 ms and 1 h"),
            ),
            (
                (1..=16 * 1024 * 1024).contains(&policy.longest_outcome),
                PolicyError::new("longest_outcome", "between 1 byte and 16 MiB"),
            ),
            (
                (1..=1024 * 1024).contains(&policy.longest_progress),
                PolicyError::new("longest_progress", "between 1 byte and 1 MiB"),
            ),
            (
                (1..=1024 * 1024).contains(&policy.longest_request),
                PolicyError::new("longest_request", "between 1 byte and 1 MiB"),
            ),
            (
                policy.patience <= Duration::from_secs(60),
                PolicyError::new("patience", "at most 1 min"),
            ),
        ];
        match checks.into_iter().find(|(fits, _)| !fits) {
            Some((_, error)) => Err(error),
            None => Ok(policy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let build = Policy::builder;
        for (builder, field) in [
            (build().retention(Duration::ZERO), "retention"),
            (build().retention(Duration::MAX), "retention"),
            (build().retry_after(Duration::ZERO), "retry_after"),
            (build().longest_outcome(0), "longest_outcome"),
            (build().longest_outcome(usize::MAX), "longest_outcome"),
            (build().longest_progress(0), "longest_progress"),
            (build().longest_request(usize::MAX), "longest_request"),
            (build().patience(Duration::MAX), "patience"),
        ] {
            assert_eq!(builder.build().unwrap_err().field(), field);
        }
        assert_eq!(build().build(), Ok(Policy::default()));
    }
}
