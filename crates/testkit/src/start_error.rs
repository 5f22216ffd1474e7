//! Why there is no server of one's own.

use crate::{programs::NotFound, supervisor};

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It is not installed.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// It is, and did not start.
    #[error(transparent)]
    NotStarted(#[from] supervisor::StartError),
}
