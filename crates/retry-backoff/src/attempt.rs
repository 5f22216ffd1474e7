//! What an operation may know about the attempt that it is.

use std::time::Duration;

use crate::Failure;

/// The attempt that is about to be made.
#[derive(Debug)]
pub struct Attempt<'a, E> {
    number: u32,
    last: Option<&'a Failure<E>>,
    left: Option<Duration>,
    limit: Option<Duration>,
}

impl<'a, E> Attempt<'a, E> {
    #[inline]
    pub(crate) const fn new(
        number: u32,
        last: Option<&'a Failure<E>>,
        left: Option<Duration>,
        limit: Option<Duration>,
    ) -> Self {
        Self {
            number,
            last,
            left,
            limit,
        }
    }

    /// Which one it is, counted from 1.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// How the one before it failed. `None` for the first, and after an `Ok` that was judged a
    /// failure.
    #[must_use]
    pub const fn last(&self) -> Option<&'a Failure<E>> {
        self.last
    }

    /// The time that is left for the whole call; `None` without such a limit.
    #[must_use]
    pub const fn left(&self) -> Option<Duration> {
        self.left
    }

    /// The time after which this attempt is dropped: the attempt's own, or what is left of the
    /// whole, whichever is shorter. Worth sending along.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        match (self.limit, self.left) {
            (Some(limit), Some(left)) => Some(limit.min(left)),
            (limit, left) => limit.or(left),
        }
    }
}

impl<E> Clone for Attempt<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Attempt<'_, E> {}
