//! When an operation must be over.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    StoreError,
    class::{Phase, StoreErrorKind},
    error::DriverError,
};

/// When an operation must be over. One operation has one deadline, however many statements it is.
///
/// sqlx has none of its own: a query into a black hole hangs for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// What an operation on SQL may take, unless another time is chosen.
    pub const SQL: Duration = Duration::from_secs(5);
    /// What an operation on Redis may take, unless another time is chosen.
    pub const REDIS: Duration = Duration::from_millis(500);
    /// Farther than this nothing is waited for, and tokio's timer can count it.
    const FARTHEST: Duration = Duration::from_secs(60 * 60 * 24 * 365);

    /// The time `allowed` from now, or a year if that is shorter.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "tokio's timer strikes it, so it is told by tokio's clock"
    )]
    pub fn after(allowed: Duration) -> Self {
        Self {
            at: Instant::now() + allowed.min(Self::FARTHEST),
        }
    }

    /// What is left.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "as above")]
    pub fn remaining(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Runs one step until the deadline, and judges its error by the phase it is in.
    ///
    /// Dropping the future drops the step.
    ///
    /// # Errors
    ///
    /// The step's own error; of kind [`StoreErrorKind::Deadline`] when the deadline struck. The
    /// step was dropped then, and its connection must not be used again.
    pub async fn run<T, E: DriverError>(
        self,
        phase: Phase,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout_at(self.at, step).await {
            Ok(result) => result.map_err(|error| error.judged(phase)),
            Err(_) => Err(StoreError::new(StoreErrorKind::Deadline, phase)),
        }
    }
}
