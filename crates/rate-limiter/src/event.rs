//! What happened, for those who listen.

use std::{borrow::Cow, time::Duration};

/// Something that happened to a limiter. Told to observers after it has happened, outside of all locks.
/// Keys are not in it: they are the callers' data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The limiter's name.
    pub name: Cow<'static, str>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Permits were given.
    #[non_exhaustive]
    Allowed {
        /// How many.
        permits: u64,
    },
    /// Permits were not given. In shadow the caller was let through all the same.
    #[non_exhaustive]
    Refused {
        /// How many were asked for.
        permits: u64,
        /// After how long they are there; `None` for never.
        retry_after: Option<Duration>,
        /// The caller was let through.
        shadow: bool,
    },
    /// One who would have waited was turned away: too many wait, or it would be too long.
    TurnedAway,
    /// The store could not be asked; what is decided without it is the policy's.
    #[non_exhaustive]
    StoreFailed {
        /// What is done instead: `local`, `open` or `closed`.
        instead: &'static str,
    },
    /// The store answers again.
    StoreRecovered,
    /// All places were taken by keys that are not idle; so many of those with the least owed were
    /// forgotten.
    #[non_exhaustive]
    KeysForgotten {
        /// How many.
        keys: u64,
    },
    /// Idle keys were removed from the store.
    #[non_exhaustive]
    KeysPruned {
        /// How many.
        keys: u64,
    },
    /// The quota was changed.
    QuotaChanged,
    /// An adaptive concurrency limit changed.
    #[non_exhaustive]
    LimitMoved {
        /// What it was.
        from: usize,
        /// What it is.
        to: usize,
    },
}

impl Event {
    /// As a line of `tracing`: what a person must know at `warn`, each refusal at `debug`.
    pub(crate) fn trace(&self) {
        let name = &self.name;
        match self.kind {
            EventKind::Allowed { .. } => {}
            EventKind::Refused {
                permits,
                retry_after,
                shadow,
            } => {
                tracing::debug!(%name, permits, ?retry_after, shadow, "the rate limiter refused");
            }
            EventKind::TurnedAway => {
                tracing::debug!(%name, "the rate limiter's queue turned one away");
            }
            EventKind::StoreFailed { instead } => {
                tracing::warn!(%name, instead, "the rate limiter's store does not answer");
            }
            EventKind::StoreRecovered => {
                tracing::info!(%name, "the rate limiter's store answers again");
            }
            EventKind::KeysForgotten { keys } => {
                tracing::warn!(%name, keys, "the rate limiter forgot keys that were not idle");
            }
            EventKind::KeysPruned { keys } => {
                tracing::debug!(%name, keys, "idle keys were removed from the rate limiter's store");
            }
            EventKind::QuotaChanged => {
                tracing::info!(%name, "the rate limiter's quota was changed");
            }
            EventKind::LimitMoved { from, to } => {
                tracing::debug!(%name, from, to, "the concurrency limit moved");
            }
        }
    }
}
