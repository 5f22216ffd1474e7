//! What a loader is told, and what it says: the value, and terms of its own.

use std::{fmt, sync::Arc, time::Duration};

use crate::key::Key;

/// The most tags of an entry; more are not kept, and such an entry is not kept either.
pub(crate) const MOST_TAGS: usize = 64;

/// What a loader may want to know.
#[non_exhaustive]
pub struct LoadContext<V> {
    key: Key,
    stale: Option<V>,
    etag: Option<Arc<str>>,
}

impl<V> LoadContext<V> {
    pub(crate) const fn new(key: Key, stale: Option<V>, etag: Option<Arc<str>>) -> Self {
        Self { key, stale, etag }
    }

    /// The key that is loaded.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value that is there and has not been invalidated: stale, or about to be.
    #[must_use]
    pub const fn stale(&self) -> Option<&V> {
        self.stale.as_ref()
    }

    /// Its entity tag, for `If-None-Match`: an answer 304 is [`Loaded::not_modified`].
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }
}

impl<V> fmt::Debug for LoadContext<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadContext")
            .field("stale", &self.stale.is_some())
            .field("etag", &self.etag.is_some())
            .finish_non_exhaustive()
    }
}

/// What a loader brings: a value, that there is none, or that it has not changed; and on which terms it is
/// kept, where they are not the policy's.
///
/// A plain value, or an `Option` of one, is enough where there is nothing more to say.
///
/// ```
/// use std::time::Duration;
/// use buttress_cache_aside::Loaded;
///
/// let price = Loaded::new(4200)
///     .ttl(Duration::from_secs(5))
///     .tags(["prices", "product:7"])
///     .etag("\"v3\"");
/// # drop(price);
/// # drop([Loaded::from(1), Loaded::from(None)]);
/// ```
#[must_use]
#[derive(Clone)]
pub struct Loaded<V> {
    pub(crate) answer: Answer<V>,
    pub(crate) terms: OwnTerms,
}

#[derive(Clone)]
pub(crate) enum Answer<V> {
    Value(V),
    NotFound,
    NotModified,
}

/// What a loader said, and the policy did not.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnTerms {
    pub(crate) ttl: Option<Duration>,
    pub(crate) stale_while_revalidate: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
    pub(crate) do_not_cache: bool,
    pub(crate) tags: Option<Vec<Box<str>>>,
    pub(crate) weight: Option<u32>,
    pub(crate) etag: Option<Arc<str>>,
}

impl<V> Loaded<V> {
    /// The value.
    pub fn new(value: V) -> Self {
        Self::of(Answer::Value(value))
    }

    /// There is none. It is kept for the policy's `negative_ttl`, or for a [`ttl`](Self::ttl) said here.
    pub fn not_found() -> Self {
        Self::of(Answer::NotFound)
    }

    /// The value that [`LoadContext::stale`] gave is still right: it is fresh again, with its entity tag, tags and
    /// weight, unless others are said here.
    pub fn not_modified() -> Self {
        Self::of(Answer::NotModified)
    }

    fn of(answer: Answer<V>) -> Self {
        Self {
            answer,
            terms: OwnTerms::default(),
        }
    }

    /// It is fresh for so long, less the policy's jitter; not at all at zero. Longer than 366 days is 366 days.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.terms.ttl = Some(ttl);
        self
    }

    /// For so long after its time to live it is served while it is loaded anew.
    pub fn stale_while_revalidate(mut self, after: Duration) -> Self {
        self.terms.stale_while_revalidate = Some(after);
        self
    }

    /// For so long after its time to live it is served when its load fails.
    pub fn stale_if_error(mut self, after: Duration) -> Self {
        self.terms.stale_if_error = Some(after);
        self
    }

    /// It is given to those who wait for it, and not kept. An older entry goes.
    pub fn do_not_cache(mut self) -> Self {
        self.terms.do_not_cache = true;
        self
    }

    /// It can be invalidated by these. At most 64 of them; an entry that should have more is not kept.
    pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags = tags.into_iter().map(|tag| tag.as_ref().into());
        self.terms.tags.get_or_insert_default().extend(tags);
        self
    }

    /// It takes so much of the capacity, instead of what the weigher says.
    pub fn weight(mut self, weight: u32) -> Self {
        self.terms.weight = Some(weight);
        self
    }

    /// Its entity tag, with its quotes, given to the next loader.
    pub fn etag(mut self, etag: impl Into<Arc<str>>) -> Self {
        self.terms.etag = Some(etag.into());
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

/// `None` is [`Loaded::not_found`].
impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        value.map_or_else(Self::not_found, Self::new)
    }
}

impl<V> fmt::Debug for Loaded<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = match self.answer {
            Answer::Value(_) => "value",
            Answer::NotFound => "not found",
            Answer::NotModified => "not modified",
        };
        f.debug_struct("Loaded")
            .field("answer", &answer)
            .field("ttl", &self.terms.ttl)
            .field("do_not_cache", &self.terms.do_not_cache)
            .finish_non_exhaustive()
    }
}
