//! The bus: how instances hear of invalidations.
//!
//! A [`Bus`] carries bytes from each to all, and may lose any of them. A [`Line`] makes of that what a first level
//! needs: each message has its sender's count, so that a lost one is noticed by the next; each instance says
//! something four times a second, so that there is a next; and its own beat, once it comes back to it, tells up to
//! when it has heard everything: [`Line::heard_within`]. After a lost connection, a gap or a silence, whoever listens
//! is told that he may have missed [something](News::Lost).
//!
//! Messages carry keys, tags and versions, and never a value.

mod line;
mod machine;
mod memory;
mod message;
mod owed;
mod policy;
#[cfg(feature = "redis")]
mod redis;

use std::fmt;

use async_trait::async_trait;
use buttress_store::{Deadline, Key, StoreError};

pub(crate) use self::owed::{Debt, Owed, Receipt};
#[cfg(feature = "redis")]
pub use self::redis::RedisBus;
pub use self::{
    line::Line,
    memory::MemoryBus,
    policy::{LinePolicy, LinePolicyError},
};
use crate::store::Stamp;

/// What carries messages from each instance to all, itself included.
///
/// Of one sender and one server, messages arrive in the order in which they were acknowledged, or not at all.
#[async_trait]
pub trait Bus: fmt::Debug + Send + Sync {
    /// Sends a message to all that listen to `space`.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest. It may have been sent.
    async fn publish(
        &self,
        space: &Key,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), StoreError>;

    /// Listens to `space`. Once this has returned, nothing that is sent is missed without an error.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest.
    async fn subscribe(
        &self,
        space: &Key,
        deadline: Deadline,
    ) -> Result<Box<dyn Subscription>, StoreError>;
}

/// An instance that listens.
#[async_trait]
pub trait Subscription: fmt::Debug + Send {
    /// The next message. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when messages may have been lost. Then the subscription is over.
    async fn next(&mut self) -> Result<Vec<u8>, StoreError>;
}

/// Who hears what others say. It is called from the line's task, one at a time and in order: it does not wait.
pub trait Ear: Send + Sync {
    /// Hears it.
    fn hear(&self, news: News);
}

impl<F: Fn(News) + Send + Sync> Ear for F {
    fn hear(&self, news: News) {
        self(news);
    }
}

/// What an instance tells the others, and hears of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum News {
    /// The entry of this key is not what it was: it was written or removed.
    Changed(Key),
    /// The entry of this key is stale.
    Expired(Key),
    /// A tag was marked; the stamp of what was made since, where it is known.
    Marked {
        /// The tag.
        tag: Key,
        /// The store's stamp.
        stamp: Option<Stamp>,
    },
    /// All of the cache was marked.
    Cleared {
        /// The store's stamp.
        stamp: Option<Stamp>,
    },
    /// Something may have been missed, and it may have been anything. It is never said, only heard.
    Lost(Loss),
}

/// Why something may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// There was no connection.
    Disconnected,
    /// A sender's count jumped.
    Gap,
    /// A message was not one.
    Unreadable,
}
