//! What the inner service's error is to the layer.

use buttress_core::CallError;

use crate::{Failure, RetryError};

/// Takes the inner service's error apart.
pub trait Split<E> {
    /// The error that is judged, and that comes out.
    type Error;

    /// The failure that it was.
    fn split(error: E) -> Failure<Self::Error>;
}

/// The inner service's error is its own.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "it has no value: it is for types")]
pub enum Own {}

/// The inner service is wrapped already, by a breaker or a limiter, and fails with a [`CallError`];
/// or by a hedge, and fails with a [`RetryError`]: its rejections are understood, and what comes out
/// holds no error in an error.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "it has no value: it is for types")]
pub enum Unwrapped {}

impl<E> Split<E> for Own {
    type Error = E;

    fn split(error: E) -> Failure<E> {
        Failure::Failed(error)
    }
}

impl<E> Split<CallError<E>> for Unwrapped {
    type Error = E;

    fn split(error: CallError<E>) -> Failure<E> {
        error.into()
    }
}

impl<E> Split<RetryError<E>> for Unwrapped {
    type Error = E;

    fn split(error: RetryError<E>) -> Failure<E> {
        error.into_failure()
    }
}
