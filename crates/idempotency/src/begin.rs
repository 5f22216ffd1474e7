//! What becomes of somebody who comes with a key.

use std::time::Duration;

use bytes::Bytes;

use crate::{Guard, Refusal};

/// What becomes of somebody who comes with a key. `G` is what he holds when it is his:
/// a [`Guard`], or in his own transaction a [`TransactionGuard`](crate::TransactionGuard).
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these four are all that can become of him, and he must answer to each"
)]
#[must_use = "it says whether to do the work"]
pub enum Begin<G = Guard> {
    /// Do the work, and say how it ended.
    New(G),
    /// It is done, and this came of it.
    Replay(Bytes),
    /// Somebody else is at it.
    InFlight {
        /// Worth coming back after so long.
        retry_after: Duration,
    },
    /// The key was used for another request.
    Mismatch,
}

impl<G> Begin<G> {
    /// Whether the work is to be done, or what came of it; the refusals apart.
    ///
    /// # Errors
    ///
    /// [`Refusal`], for what is neither.
    pub fn accepted(self) -> Result<Result<G, Bytes>, Refusal> {
        match self {
            Self::New(guard) => Ok(Ok(guard)),
            Self::Replay(outcome) => Ok(Err(outcome)),
            Self::InFlight { retry_after } => Err(Refusal::in_flight(retry_after)),
            Self::Mismatch => Err(Refusal::Mismatch),
        }
    }
}
