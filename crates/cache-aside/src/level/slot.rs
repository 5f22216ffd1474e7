//! An entry, as it lies in the first level.

use std::sync::Arc;

use buttress_core::Moment;

use crate::{
    machine::{Life, Standing},
    tag::{TagCell, Tags},
};

/// An entry. It is cloned at each read, so what few entries have lies aside.
#[derive(Clone, Debug)]
pub(crate) struct Slot<V> {
    /// `None`: there is nothing under this key.
    pub(crate) value: Option<V>,
    pub(crate) life: Life,
    /// The number with which its load began.
    pub(crate) born: u64,
    pub(crate) weight: u32,
    pub(crate) more: Option<Arc<More>>,
}

/// What few entries have.
#[derive(Debug, Default)]
pub(crate) struct More {
    pub(crate) tags: Box<[Arc<TagCell>]>,
    pub(crate) etag: Option<Arc<str>>,
}

impl<V> Slot<V> {
    /// Whether a clear, or an invalidation of one of its tags, came after its load began.
    #[inline]
    pub(crate) fn is_fenced(&self, tags: &Tags) -> bool {
        tags.is_cleared(self.born)
            || self
                .more
                .as_ref()
                .is_some_and(|more| more.fences(self.born))
    }

    #[inline]
    pub(crate) fn standing(&self, now: Moment) -> Standing {
        self.life.standing(now)
    }

    pub(crate) fn etag(&self) -> Option<&Arc<str>> {
        self.more.as_ref()?.etag.as_ref()
    }
}

impl More {
    fn fences(&self, born: u64) -> bool {
        self.tags.iter().any(|tag| tag.fences(born))
    }
}
