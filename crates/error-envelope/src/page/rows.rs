//! One page, and what stands beside it.

use serde::{Deserialize, Serialize};

use crate::Envelope;

/// Some items of a list, and where it goes on.
///
/// As an [`Envelope`] the items are its data, and `{"next_cursor": …}` is its meta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// What stands beside a page: `{"next_cursor": "…"}`, `null` on the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageMeta {
    /// The cursor that leads to the next page.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    pub(super) const fn new(items: Vec<T>, next_cursor: Option<String>) -> Self {
        Self { items, next_cursor }
    }

    /// The items, in their order.
    #[must_use]
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// The cursor that leads to the next page; `None` on the last one.
    #[must_use]
    pub fn next_cursor(&self) -> Option<&str> {
        self.next_cursor.as_deref()
    }

    /// The same page with each item changed: a row into what is shown of it.
    #[must_use]
    pub fn map<O>(self, change: impl FnMut(T) -> O) -> Page<O> {
        Page {
            items: self.items.into_iter().map(change).collect(),
            next_cursor: self.next_cursor,
        }
    }

    /// The items, and what stands beside them.
    #[must_use]
    pub fn into_parts(self) -> (Vec<T>, PageMeta) {
        let next_cursor = self.next_cursor;
        (self.items, PageMeta { next_cursor })
    }
}

impl<T> From<Page<T>> for Envelope<Vec<T>> {
    fn from(page: Page<T>) -> Self {
        let (items, meta) = page.into_parts();
        Self::new(items).with_meta(meta)
    }
}
