//! What happened, for those who listen.

use std::{borrow::Cow, time::Duration};

use buttress_core::Observers;
use buttress_store::StoreErrorKind;
use tracing::{Level, level_filters::LevelFilter};

use crate::{CacheError, bus::Loss, codec::Unreadable};

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
    /// The second level had it.
    SecondLevelHit,
    /// The second level failed, or is left alone since: the source is asked instead. Told once for each time.
    #[non_exhaustive]
    SecondLevelFailed {
        /// What went wrong.
        why: StoreErrorKind,
    },
    /// The second level answers again.
    SecondLevelRecovered,
    /// What the second level holds under a key is no entry, and was missed.
    #[non_exhaustive]
    Unreadable {
        /// Why.
        why: Unreadable,
    },
    /// Another instance was loading the key, and was waited for.
    #[non_exhaustive]
    WaitedForAnother {
        /// For how long.
        took: Duration,
        /// What it loaded came. If not, the caller loads for himself.
        came: bool,
    },
    /// A value is too large, or cannot be written: it is kept in this process alone.
    NotShared,
    /// A change did not get to the second level and to all others. It is tried again.
    #[non_exhaustive]
    Owed {
        /// How many are owed by now.
        debts: usize,
    },
    /// Writes that waited for the source were written.
    #[non_exhaustive]
    WrittenBehind {
        /// Of how many keys.
        keys: usize,
        /// How long it took.
        took: Duration,
    },
    /// Writes that wait for the source were not written, as far as is known. They are tried again.
    #[non_exhaustive]
    WriteBehindFailed {
        /// Of how many keys.
        keys: usize,
        /// How long it took.
        took: Duration,
    },
    /// Writes were refused, or tried as often as the policy says: the source will not get them.
    #[non_exhaustive]
    WriteGivenUp {
        /// Of how many keys.
        keys: usize,
    },
    /// What others said may have been missed: the first level was dropped.
    #[non_exhaustive]
    NewsLost {
        /// Why.
        why: Loss,
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
impl LoadFailure {
    pub(crate) const fn of(error: &CacheError) -> Self {
        match error {
            CacheError::TimedOut(_) => Self::Timeout,
            CacheError::Panicked(_) => Self::Panic,
            _ => Self::Error,
        }
    }
}

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
            Self::SecondLevelFailed { why } => {
                tracing::warn!(name, ?why, "the second level failed");
            }
            Self::SecondLevelRecovered => tracing::info!(name, "the second level answers again"),
            Self::Unreadable { why } => tracing::warn!(name, %why, "an entry was missed"),
            Self::WaitedForAnother { took, came } => {
                tracing::debug!(name, ?took, came, "another instance was waited for");
            }
            Self::WrittenBehind { keys, took } => tracing::debug!(name, keys, ?took, "written"),
            Self::WriteBehindFailed { keys, took } => {
                tracing::warn!(name, keys, ?took, "what waits could not be written");
            }
            Self::WriteGivenUp { keys } => {
                tracing::error!(name, keys, "what was answered for will not be written");
            }
            Self::Owed { debts } => {
                tracing::warn!(name, debts, "a change is not with all others yet");
            }
            Self::NewsLost { why } => {
                tracing::info!(name, ?why, "what others said may have been missed");
            }
            _ => {}
        }
    }
}
