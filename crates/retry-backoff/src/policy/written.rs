//! A policy as a configuration file writes it; what is left out is the default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PolicyError, RetryPolicy, RetryPolicyBuilder};
use crate::{Backoff, RetryAfterRule};

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    attempts: u32,
    backoff: Backoff,
    #[serde(rename = "total_time_ms", with = "super::millis::optional")]
    total_time: Option<Duration>,
    #[serde(rename = "attempt_timeout_ms", with = "super::millis::optional")]
    attempt_timeout: Option<Duration>,
    #[serde(rename = "least_time_ms", with = "super::millis")]
    least_time: Duration,
    retry_after: RetryAfterRule,
    #[serde(rename = "longest_wait_ms", with = "super::millis")]
    longest_wait: Duration,
    keep_errors: bool,
}

impl Default for Written {
    fn default() -> Self {
        RetryPolicy::default().into()
    }
}

impl From<RetryPolicy> for Written {
    fn from(policy: RetryPolicy) -> Self {
        Self {
            attempts: policy.attempts,
            backoff: policy.backoff,
            total_time: policy.total_time,
            attempt_timeout: policy.attempt_timeout,
            least_time: policy.least_time,
            retry_after: policy.retry_after,
            longest_wait: policy.longest_wait,
            keep_errors: policy.keep_errors,
        }
    }
}

impl TryFrom<Written> for RetryPolicy {
    type Error = PolicyError;

    fn try_from(written: Written) -> Result<Self, PolicyError> {
        RetryPolicyBuilder::new(Self {
            attempts: written.attempts,
            backoff: written.backoff,
            total_time: written.total_time,
            attempt_timeout: written.attempt_timeout,
            least_time: written.least_time,
            retry_after: written.retry_after,
            longest_wait: written.longest_wait,
            keep_errors: written.keep_errors,
        })
        .build()
    }
}
