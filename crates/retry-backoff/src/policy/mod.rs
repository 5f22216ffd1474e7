//! What a user chooses: how often, how long, after which waits.

mod builder;
#[cfg(feature = "serde")]
pub(crate) mod millis;
#[cfg(feature = "serde")]
mod written;

use std::time::Duration;

pub use self::builder::{PolicyError, RetryPolicyBuilder};
use crate::{Backoff, RetryAfterRule};

/// How often, for how long, and after which waits something is tried again. Plain data, checked
/// when it is built; read from a configuration file (feature `serde`) through the same checks.
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `attempts` | 3, the first one included | from 1; [`RetryPolicyBuilder::unlimited_attempts`] |
/// | `backoff` | exponential from 100 ms, full jitter, capped at 20 s | see [`Backoff`] |
/// | `total_time` | none | longer than 0 |
/// | `attempt_timeout` | none | longer than 0 |
/// | `least_time` | 0: an attempt may begin with any time left | shorter than `total_time` |
/// | `retry_after` | [`RetryAfterRule::AtLeast`] | |
/// | `longest_wait` | 30 s: who is asked to wait longer gives up | longer than 0 |
/// | `keep_errors` | no: only the last one | |
///
/// ```
/// use std::time::Duration;
/// use buttress_retry_backoff::{Backoff, RetryPolicy};
///
/// # fn main() -> Result<(), buttress_retry_backoff::PolicyError> {
/// let policy = RetryPolicy::builder()
///     .attempts(5)
///     .backoff(Backoff::fibonacci(Duration::from_millis(50)))
///     .total_time(Duration::from_secs(3))
///     .build()?;
/// assert_eq!(policy.attempts(), 5);
/// let wrong = RetryPolicy::builder().attempts(0).build().unwrap_err();
/// assert_eq!(wrong.to_string(), "attempts must be from 1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "written::Written", into = "written::Written")
)]
pub struct RetryPolicy {
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) total_time: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) least_time: Duration,
    pub(crate) retry_after: RetryAfterRule,
    pub(crate) longest_wait: Duration,
    pub(crate) keep_errors: bool,
}

impl RetryPolicy {
    /// A policy of defaults, to be changed and then built.
    pub fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder::new(Self::default())
    }

    /// This policy, to be changed and built anew.
    pub fn to_builder(&self) -> RetryPolicyBuilder {
        RetryPolicyBuilder::new(self.clone())
    }

    /// Whether no time is limited.
    pub(crate) const fn is_plain(&self) -> bool {
        self.total_time.is_none() && self.attempt_timeout.is_none()
    }

    /// How many attempts at most, the first one included; `u32::MAX` stands for no limit.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The waits between attempts.
    #[must_use]
    pub const fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// For how long altogether, waits and attempts.
    #[must_use]
    pub const fn total_time(&self) -> Option<Duration> {
        self.total_time
    }

    /// For how long each attempt.
    #[must_use]
    pub const fn attempt_timeout(&self) -> Option<Duration> {
        self.attempt_timeout
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::exponential(Duration::from_millis(100)),
            total_time: None,
            attempt_timeout: None,
            least_time: Duration::ZERO,
            retry_after: RetryAfterRule::AtLeast,
            longest_wait: Duration::from_secs(30),
            keep_errors: false,
        }
    }
}
