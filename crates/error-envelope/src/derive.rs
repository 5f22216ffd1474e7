//! What the derive's code calls. No part of the public interface: it may change at any time.

use std::time::Duration;

use buttress_core::RetryAfter;
use http::{HeaderMap, StatusCode};
pub use serde::Serialize;
use serde_json::Value;

use crate::Problem;

/// How long to wait, as a field may say it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no time to come back",
    note = "a `Duration`, a `RetryAfter`, a `u64` of seconds, or an `Option` of one of them is"
)]
pub trait Wait {
    /// How long, if it is known.
    fn wait(&self) -> Option<Duration>;
}

impl Wait for Duration {
    fn wait(&self) -> Option<Duration> {
        Some(*self)
    }
}

impl Wait for u64 {
    fn wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(*self))
    }
}

impl Wait for RetryAfter {
    fn wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.as_secs()))
    }
}

impl<W: Wait> Wait for Option<W> {
    fn wait(&self) -> Option<Duration> {
        self.as_ref().and_then(Wait::wait)
    }
}

impl<W: Wait + ?Sized> Wait for &W {
    fn wait(&self) -> Option<Duration> {
        (**self).wait()
    }
}

/// The opaque 500.
#[must_use]
pub fn internal() -> Problem {
    Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR)
}

/// With the time to come back, if it is known.
#[must_use]
pub fn retry_after(problem: Problem, wait: &(impl Wait + ?Sized)) -> Problem {
    match wait.wait() {
        Some(wait) => problem.with_retry_after(wait),
        None => problem,
    }
}

/// With a member, unless it is null or cannot be serialized.
#[must_use]
pub fn extension(problem: Problem, name: &str, value: &(impl Serialize + ?Sized)) -> Problem {
    match serde_json::to_value(value) {
        Ok(Value::Null) | Err(_) => problem,
        Ok(value) => problem.with_extension(name, value),
    }
}

/// With header fields.
#[must_use]
pub fn headers(mut problem: Problem, headers: &HeaderMap) -> Problem {
    for (name, value) in headers {
        problem = problem.with_header(name.clone(), value.clone());
    }
    problem
}
