//! What the error of another service says to a retry and a breaker, and to one's own callers.

use std::{borrow::Cow, time::Duration};

use buttress_core::{Classify, Fault, Verdict, classify::http::by_status};
use http::{HeaderMap, StatusCode};

use super::RemoteProblem;
use crate::preset;

impl RemoteProblem {
    /// What it says about the health of the other service and about what was done: by its status,
    /// as [`ByStatus`](buttress_core::classify::http::ByStatus) has it, with the time to come back
    /// where it answered 429 or 503. Nothing in the body makes an unknown effect a known one.
    ///
    /// One whose status is below 400 was no error to HTTP; nothing is known about its effect then.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.status().as_u16() < 400 {
            return Verdict::unknown();
        }
        let verdict = by_status(self.status(), &HeaderMap::new());
        match (self.status().as_u16(), self.retry_after()) {
            (429 | 503, Some(wait)) => verdict.with_retry_after(wait.as_duration()),
            _ => verdict,
        }
    }

    /// The status with which a service leaves that could not do its work because of this one.
    fn own_status(&self) -> StatusCode {
        match self.status().as_u16() {
            // Too many requests of ours are nothing that our caller did.
            429 | 503 => StatusCode::SERVICE_UNAVAILABLE,
            408 | 504 => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

/// As a failure of the service behind: 503 `UNAVAILABLE`, 504 `UPSTREAM_TIMEOUT` or 502
/// `UPSTREAM_FAILED`, and nothing that the other service said but when to come back.
impl Fault for RemoteProblem {
    fn code(&self) -> &'static str {
        match self.own_status() {
            StatusCode::SERVICE_UNAVAILABLE => "UNAVAILABLE",
            StatusCode::GATEWAY_TIMEOUT => "UPSTREAM_TIMEOUT",
            _ => "UPSTREAM_FAILED",
        }
    }

    fn status(&self) -> u16 {
        self.own_status().as_u16()
    }

    fn public_message(&self) -> Cow<'_, str> {
        preset::of(self.own_status()).1
    }

    fn retry_after(&self) -> Option<Duration> {
        let wait = RemoteProblem::retry_after(self)?;
        (self.own_status() == StatusCode::SERVICE_UNAVAILABLE).then(|| wait.as_duration())
    }
}

/// Judges calls that fail with a [`RemoteProblem`], or with the `RemoteError` of the feature
/// `reqwest`, by its verdict; every `Ok` is a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct ByRemote;

impl<T> Classify<T, RemoteProblem> for ByRemote {
    fn classify(&self, result: Result<&T, &RemoteProblem>) -> Verdict {
        match result {
            Ok(_) => Verdict::success(),
            Err(problem) => problem.verdict(),
        }
    }
}
