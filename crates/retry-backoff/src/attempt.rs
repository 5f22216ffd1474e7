//! What an operation may know about the attempt that it is.

use std::time::Duration;

use buttress_core::{Clock, Moment};

use crate::Failure;

/// The attempt that is about to be made.
#[derive(Debug)]
pub struct Attempt<'a, E> {
    number: u32,
    last: Option<&'a Failure<E>>,
    times: Times<'a>,
}

/// What limits it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times<'a> {
    /// For the whole call.
    pub(crate) left: Option<Duration>,
    /// For this attempt.
    pub(crate) limit: Option<Duration>,
    /// Whose time it is.
    pub(crate) clock: Option<&'a Clock>,
    /// When `left` was so.
    pub(crate) now: Option<Moment>,
}

impl Times<'_> {
    /// Nothing does.
    pub(crate) const NONE: Self = Self {
        left: None,
        limit: None,
        clock: None,
        now: None,
    };
}

impl<'a, E> Attempt<'a, E> {
    #[inline]
    pub(crate) const fn new(number: u32, last: Option<&'a Failure<E>>, times: Times<'a>) -> Self {
        Self {
            number,
            last,
            times,
        }
    }

    /// The first one of a call that nothing limits.
    #[inline]
    pub(crate) const fn first() -> Self {
        Self::new(1, None, Times::NONE)
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
        self.times.left
    }

    /// The time after which this attempt is dropped: the attempt's own, or what is left of the
    /// whole, whichever is shorter. Worth sending along.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        match (self.times.limit, self.times.left) {
            (Some(limit), Some(left)) => Some(limit.min(left)),
            (limit, left) => limit.or(left),
        }
    }

    pub(crate) const fn clock(&self) -> Option<&'a Clock> {
        self.times.clock
    }

    pub(crate) const fn now(&self) -> Option<Moment> {
        self.times.now
    }
}

impl<E> Clone for Attempt<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Attempt<'_, E> {}
