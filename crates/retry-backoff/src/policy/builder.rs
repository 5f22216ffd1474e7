//! A policy while it is being chosen, and what is refused.

use std::time::Duration;

use super::RetryPolicy;
use crate::{Backoff, RetryAfterRule};

/// A policy that cannot work: which field, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {range}")]
pub struct PolicyError {
    field: &'static str,
    range: &'static str,
}

impl PolicyError {
    pub(crate) const fn new(field: &'static str, range: &'static str) -> Self {
        Self { field, range }
    }

    /// The field, as it is called in a configuration file.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What it must be.
    #[must_use]
    pub const fn range(&self) -> &'static str {
        self.range
    }
}

/// Makes a [`RetryPolicy`]. The defaults are in its table.
#[derive(Clone, Debug)]
#[must_use = "a policy is made by `build`"]
pub struct RetryPolicyBuilder {
    policy: RetryPolicy,
}

impl RetryPolicyBuilder {
    pub(super) const fn new(policy: RetryPolicy) -> Self {
        Self { policy }
    }

    /// How many attempts at most, the first one included.
    pub const fn attempts(mut self, at_most: u32) -> Self {
        self.policy.attempts = at_most;
        self
    }

    /// As many attempts as the other limits leave. Without one of them, for ever.
    pub const fn unlimited_attempts(self) -> Self {
        self.attempts(u32::MAX)
    }

    /// The waits between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// For how long altogether: no wait ends after it, no attempt begins after it, and one that is
    /// still under way then is dropped. A call reads the clock only when there is this limit, or
    /// one of its own.
    pub const fn total_time(mut self, at_most: Duration) -> Self {
        self.policy.total_time = Some(at_most);
        self
    }

    /// For how long each attempt; one that takes longer is dropped, and its effect is unknown.
    /// A blocking call is only told, for nothing can stop it.
    pub const fn attempt_timeout(mut self, at_most: Duration) -> Self {
        self.policy.attempt_timeout = Some(at_most);
        self
    }

    /// An attempt needs at least this long: with less time left none is begun.
    pub const fn least_time(mut self, at_least: Duration) -> Self {
        self.policy.least_time = at_least;
        self
    }

    /// What to do when the other side says when to come back.
    pub const fn retry_after(mut self, rule: RetryAfterRule) -> Self {
        self.policy.retry_after = rule;
        self
    }

    /// Who is asked to wait longer than this gives up at once.
    pub const fn longest_wait(mut self, at_most: Duration) -> Self {
        self.policy.longest_wait = at_most;
        self
    }

    /// Keeps the errors of all attempts, not only the last one's. At most 100 are kept: the
    /// latest.
    pub const fn keep_errors(mut self) -> Self {
        self.policy.keep_errors = true;
        self
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// When a field is out of its range: see the table of [`RetryPolicy`].
    pub fn build(self) -> Result<RetryPolicy, PolicyError> {
        let policy = self.policy;
        if policy.attempts == 0 {
            return Err(PolicyError::new("attempts", "from 1"));
        }
        if policy.total_time.is_some_and(|it| it.is_zero()) {
            return Err(PolicyError::new("total_time", "longer than 0"));
        }
        if policy.attempt_timeout.is_some_and(|it| it.is_zero()) {
            return Err(PolicyError::new("attempt_timeout", "longer than 0"));
        }
        if policy.total_time.is_some_and(|it| it <= policy.least_time) {
            return Err(PolicyError::new("least_time", "shorter than total_time"));
        }
        if policy.longest_wait.is_zero() {
            return Err(PolicyError::new("longest_wait", "longer than 0"));
        }
        policy.backoff.check()?;
        Ok(policy)
    }
}
