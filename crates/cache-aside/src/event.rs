//! What happened, for those who listen.

use std::{borrow::Cow, time::Duration};

use buttress_core::Observers;
use tracing::{Level, level_filters::LevelFilter};

/// Something that happened to a cache. Told to observers after it has happened, outside of all locks.
/// Keys, tags and values are not in it: they are the callers' data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The cache's name.
    pub name: Cow<'static, str>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// An entry was served at once.
    #[non_exhaustive]
    Hit {
        /// It was past its time to live.
        stale: bool,
        /// It says that there is nothing.
        negative: bool,
    },
    /// There was nothing to serve at once.
    #[non_exhaustive]
    Miss {
        /// Another's load was joined; none was begun.
        collapsed: bool,
    },
    /// A stale value was served, because its load failed or took too long.
    #[non_exhaustive]
    StaleServed {
        /// The load goes on; it took longer than the soft timeout.
        slow: bool,
    },
    /// A load in a task of its own was begun.
    #[non_exhaustive]
    RefreshBegun {
        /// Before the entry was stale.
        early: bool,
    },
    /// A load ended with an answer.
    #[non_exhaustive]
    Loaded {
        /// How long it took.
        took: Duration,
        /// What became of it.
        kept: Kept,
    },
    /// A load ended without an answer.
    #[non_exhaustive]
    LoadFailed {
        /// How long it took.
        took: Duration,
        /// Why.
        why: LoadFailure,
    },
    /// Entries were written by hand.
    Put,
    /// An entry was invalidated or expired.
    Invalidated,
    /// All entries of a tag were invalidated.
    TagInvalidated,
    /// All entries were invalidated.
    Cleared,
    /// Entries had to go to make room.
    #[non_exhaustive]
    Evicted {
        /// How many.
        entries: u64,
    },
}

/// What became of a load's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// It was kept.
    Kept,
    /// It was not to be kept: the loader, or a time to live of zero, says so.
    NotToKeep,
    /// Its key is too long, or it is too heavy.
    TooLarge,
    /// A write or an invalidation came while it was loaded.
    Outdated,
}

/// Why a load ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadFailure {
    /// The loader failed.
    Error,
    /// The loader panicked.
    Panic,
    /// It took longer than the hard timeout.
    Timeout,
}

/// The name of a handle, and who hears of what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) name: Cow<'static, str>,
    pub(crate) observers: Observers<Event>,
}

impl Told {
    pub(crate) fn tell(&self, kind: EventKind) {
        kind.trace(&self.name);
        self.observers.tell(|| Event {
            name: self.name.clone(),
            kind,
        });
    }

    /// For what happens at each read: it is no line of a log.
    #[inline]
    pub(crate) fn tell_quietly(&self, kind: impl FnOnce() -> EventKind) {
        if !self.observers.is_silent() {
            self.observers.tell(|| Event {
                name: self.name.clone(),
                kind: kind(),
            });
        }
    }
}

impl EventKind {
    /// As a line of `tracing`: what a person must know at `warn`, the rest at `debug`.
    fn trace(self, name: &str) {
        if LevelFilter::current() < Level::WARN {
            return;
        }
        match self {
            Self::LoadFailed { took, why } => {
                tracing::warn!(name, ?took, ?why, "a load failed");
            }
            Self::Loaded { took, kept } => tracing::debug!(name, ?took, ?kept, "loaded"),
            Self::StaleServed { slow } => tracing::debug!(name, slow, "a stale value was served"),
            Self::Cleared => tracing::info!(name, "the cache was cleared"),
            _ => {}
        }
    }
}
