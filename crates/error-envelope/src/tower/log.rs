//! What the log hears of an error that leaves.

use std::{any::Any, error::Error};

use buttress_core::Chain;

use crate::Problem;

/// One line for one error: loud when it is ours, quiet when it is the caller's.
pub(super) fn tell(problem: &Problem) {
    let (code, status) = (problem.code(), problem.status().as_u16());
    // Told only where somebody listens.
    let cause = || problem.source().map(|source| Chain(source).to_string());
    if problem.status().is_server_error() {
        tracing::error!(code, status, cause = cause(), "the request failed");
    } else {
        tracing::debug!(code, status, cause = cause(), "the request was refused");
    }
}

/// The private source of the problem that a panic becomes. Its words are for the log.
#[derive(Debug, thiserror::Error)]
#[error("a panic: {told}")]
pub(super) struct Panicked {
    told: String,
}

impl Panicked {
    /// So many characters of what a panic says are kept.
    const LONGEST: usize = 1000;

    pub(super) fn problem(payload: &(dyn Any + Send)) -> Problem {
        let told = payload
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("its payload is no text");
        Problem::internal(Self {
            told: told.chars().take(Self::LONGEST).collect(),
        })
    }
}
