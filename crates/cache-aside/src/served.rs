//! A value, and how it came to be served.

use std::{fmt, sync::Arc, time::Duration};

use buttress_core::Moment;

use crate::level::{More, Slot};

/// What a caller gets, and how it came: for a `Cache-Status` field, a log, or a test.
#[derive(Clone)]
pub struct Served<V> {
    value: Option<V>,
    outcome: CacheOutcome,
    fresh_until: Moment,
    now: Moment,
    more: Option<Arc<More>>,
}

/// How a value came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheOutcome {
    /// From the cache, fresh.
    Hit,
    /// From the cache, stale: it is being loaded anew, or was tried in vain a moment ago.
    Stale,
    /// From the cache, stale, after its load failed or took longer than the soft timeout.
    StaleIfError,
    /// From the source.
    #[non_exhaustive]
    Loaded {
        /// Another caller's load was waited for.
        collapsed: bool,
        /// There was a value, which was stale.
        was_stale: bool,
        /// It was kept.
        stored: bool,
    },
}

impl<V> Served<V> {
    pub(crate) fn new(slot: Slot<V>, outcome: CacheOutcome, now: Moment) -> Self {
        Self {
            value: slot.value,
            outcome,
            fresh_until: slot.life.fresh_until,
            now,
            more: slot.more,
        }
    }

    /// From the cache, as it lies there.
    pub(crate) fn kept(slot: Slot<V>, now: Moment) -> Self {
        let outcome = if now < slot.life.fresh_until {
            CacheOutcome::Hit
        } else {
            CacheOutcome::Stale
        };
        Self::new(slot, outcome, now)
    }

    /// The value; `None` when the source says that there is none.
    #[must_use]
    pub const fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The value, taken out.
    #[must_use]
    pub fn into_value(self) -> Option<V> {
        self.value
    }

    /// How it came.
    #[must_use]
    pub const fn outcome(&self) -> CacheOutcome {
        self.outcome
    }

    /// Whether it came from the cache, fresh or stale.
    #[must_use]
    pub const fn is_from_cache(&self) -> bool {
        !matches!(self.outcome, CacheOutcome::Loaded { .. })
    }

    /// How long it is still fresh; zero when it is not.
    #[must_use]
    pub const fn fresh_for(&self) -> Duration {
        self.fresh_until.saturating_since(self.now)
    }

    /// How long it has been stale; zero when it is fresh.
    #[must_use]
    pub const fn stale_for(&self) -> Duration {
        self.now.saturating_since(self.fresh_until)
    }

    /// Its entity tag, if its loader gave one.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.more.as_ref()?.etag.as_deref()
    }

    /// The tags by which it can be invalidated.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        let tags = self.more.iter().flat_map(|more| &more.tags);
        tags.map(|tag| tag.name())
    }
}

impl<V> fmt::Debug for Served<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("outcome", &self.outcome)
            .field("negative", &self.value.is_none())
            .field("fresh_for", &self.fresh_for())
            .field("stale_for", &self.stale_for())
            .finish_non_exhaustive()
    }
}
