//! How many are asked for, and from where on.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Visitor},
};

use super::{Page, PageError, Pages, cursor::Binding};

/// `?limit=…&cursor=…`, as it came: [`Pages::read`] looks at it.
///
/// It may be flattened into the query of a route, beside its filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PageQuery {
    #[serde(default, deserialize_with = "number")]
    limit: Option<i64>,
    #[serde(default)]
    cursor: Option<String>,
}

impl PageQuery {
    /// So many, behind the row to which this cursor leads.
    #[must_use]
    pub const fn new(limit: Option<i64>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    pub(super) const fn limit(&self) -> Option<i64> {
        self.limit
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }
}

/// A number, or a text that is one: within `#[serde(flatten)]` a parameter is always a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Number;

    impl Visitor<'_> for Number {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("i64")
        }

        fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E>(self, number: u64) -> Result<i64, E> {
            // More than any limit either way.
            Ok(i64::try_from(number).unwrap_or(i64::MAX))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Number).map(Some)
}

/// What was asked for: so many rows, behind the one with this key.
#[derive(Clone, Debug)]
pub struct PageRequest<K> {
    pages: Pages,
    binding: Binding,
    limit: u32,
    after: Option<K>,
}

impl<K> PageRequest<K> {
    pub(super) const fn new(pages: Pages, binding: Binding, limit: u32, after: Option<K>) -> Self {
        Self {
            pages,
            binding,
            limit,
            after,
        }
    }

    /// How many items the page has at most.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// How many rows to fetch: one more than the page has, which tells whether there is a next one.
    #[must_use]
    pub const fn fetch(&self) -> u32 {
        self.limit.saturating_add(1)
    }

    /// The key of the row before the page; `None` for the first page.
    #[must_use]
    pub const fn after(&self) -> Option<&K> {
        self.after.as_ref()
    }
}

impl<K: Serialize> PageRequest<K> {
    /// Makes the page of the rows that were fetched, and its cursor of the key of its last row.
    ///
    /// # Errors
    ///
    /// [`PageError::Unwritable`], when that key cannot be put into a cursor.
    pub fn page<T>(
        &self,
        mut rows: Vec<T>,
        key: impl FnOnce(&T) -> K,
    ) -> Result<Page<T>, PageError> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more).map(key);
        let next = last.map(|key| self.pages.issue(self.binding, &key));
        Ok(Page::new(rows, next.transpose()?))
    }
}
