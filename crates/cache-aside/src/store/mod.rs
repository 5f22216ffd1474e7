//! The second level: entries that several processes share.
//!
//! A store keeps bytes, and keeps three promises about them, each in one atomic step by the clock of its
//! server:
//!
//! - **A late loader stores nothing.** Whoever misses gets a [`FillToken`], as memcache's leases have it
//!   (Nishtala et al., *Scaling Memcache at Facebook*, NSDI 2013). A [`fill`](CacheStore::fill) takes effect
//!   only while its token stands, and everything that changes the key ends it.
//! - **Who made an entry when** is told by [`Stamp`]s that grow with each tag that is marked. An entry with a
//!   tag that was marked after its stamp is dead, whoever holds it, and nobody needs to find it.
//! - **What is not known is not valid.** A store that lost its marks (flushed, evicted, failed over) begins a
//!   new epoch, and no entry of another epoch is believed in.
//!
//! `testing::conformance` tells whether a store of your own holds them.

mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{Deadline, Key, StoreError};

pub use self::memory::MemoryStore;
#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreError};
pub use crate::lease::{Leased, LoadClaim};

/// Where the second level is.
///
/// Keys and spaces are bytes that the cache composed: two caches that share a store do not meet.
/// Several keys of one call are independent of one another, and asked for in one trip to each node.
///
/// Dropping a future of it leaves each key either as it was or as it was to be.
#[async_trait]
pub trait CacheStore: fmt::Debug + Send + Sync {
    /// Reads entries, and, in the same trip, what is known of the marks that `watch` names. A key that holds
    /// nothing is missed, with a token for its fill.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest.
    async fn read(
        &self,
        keys: &[Key],
        watch: Option<Watch<'_>>,
        deadline: Deadline,
    ) -> Result<Reading, StoreError>;

    /// Tokens to fill keys whose entries the caller cannot or will not use: stale, dead by a tag, not to be
    /// decoded. The entries stay until they are replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest.
    async fn claim(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Missed>, StoreError>;

    /// What is known of the marks. Ask before the loader begins: the stamp says what it may have seen.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest. Then nothing is known, and nothing is to be believed.
    async fn marks(&self, watch: Watch<'_>, deadline: Deadline) -> Result<Marks, StoreError>;

    /// Stores what was loaded, if the token still stands; whether it did. The token is used up.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest. It may have been stored: that is no harm.
    async fn fill(
        &self,
        key: &Key,
        token: &FillToken,
        record: Record<'_>,
        deadline: Deadline,
    ) -> Result<bool, StoreError>;

    /// Removes the entry of a key, ends all its tokens, and gives a new one: for who has written its value.
    ///
    /// There is no write without a token. One that got lost on its way and arrives late, after somebody else's
    /// removal, would bring back what was removed; a late fill stores nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest: the entry may be gone.
    async fn take_over(&self, key: &Key, deadline: Deadline) -> Result<FillToken, StoreError>;

    /// Removes entries, and ends all tokens of their keys.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest: some may be gone.
    async fn invalidate(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError>;

    /// Makes entries stale, and ends all tokens of their keys. An entry that has no life as a stale one goes.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest: some may be stale.
    async fn expire(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError>;

    /// Marks tags of a space, or all of it: entries with an earlier stamp are dead. The stamp of those that
    /// are not.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest: they may be marked.
    async fn mark(
        &self,
        space: &Key,
        what: Marked<'_>,
        deadline: Deadline,
    ) -> Result<Stamp, StoreError>;

    /// Takes the lease of a load for a term, or, by who has it, takes it for another. Where it is another's, nothing
    /// changes. A token whose lease is taken lives on.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest: it may have been taken. Whoever gets one does not wait.
    async fn lease(
        &self,
        key: &Key,
        claim: &LoadClaim,
        term: Duration,
        deadline: Deadline,
    ) -> Result<Leased, StoreError>;

    /// Gives a lease back, if it is this claim's: the next who asks gets it. With `open`, nobody is to wait for so long,
    /// or until the token ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest. Then it ends with its term.
    async fn let_go(
        &self,
        key: &Key,
        claim: &LoadClaim,
        open: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(), StoreError>;
}

#[async_trait]
impl<S: CacheStore + ?Sized> CacheStore for Arc<S> {
    async fn read(
        &self,
        keys: &[Key],
        watch: Option<Watch<'_>>,
        deadline: Deadline,
    ) -> Result<Reading, StoreError> {
        (**self).read(keys, watch, deadline).await
    }

    async fn claim(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Missed>, StoreError> {
        (**self).claim(keys, deadline).await
    }

    async fn marks(&self, watch: Watch<'_>, deadline: Deadline) -> Result<Marks, StoreError> {
        (**self).marks(watch, deadline).await
    }

    async fn fill(
        &self,
        key: &Key,
        token: &FillToken,
        record: Record<'_>,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        (**self).fill(key, token, record, deadline).await
    }

    async fn take_over(&self, key: &Key, deadline: Deadline) -> Result<FillToken, StoreError> {
        (**self).take_over(key, deadline).await
    }

    async fn invalidate(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        (**self).invalidate(keys, deadline).await
    }

    async fn expire(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        (**self).expire(keys, deadline).await
    }

    async fn mark(
        &self,
        space: &Key,
        what: Marked<'_>,
        deadline: Deadline,
    ) -> Result<Stamp, StoreError> {
        (**self).mark(space, what, deadline).await
    }

    async fn lease(
        &self,
        key: &Key,
        claim: &LoadClaim,
        term: Duration,
        deadline: Deadline,
    ) -> Result<Leased, StoreError> {
        (**self).lease(key, claim, term, deadline).await
    }

    async fn let_go(
        &self,
        key: &Key,
        claim: &LoadClaim,
        open: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        (**self).let_go(key, claim, open, deadline).await
    }
}

/// What a store is given to keep.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "it is what stores write")]
pub struct Record<'r> {
    /// The entry.
    pub bytes: &'r [u8],
    /// For how long it is fresh.
    pub fresh: Duration,
    /// For how long it is kept at all: the time in which it is stale included.
    pub life: Duration,
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, fresh, life } = self;
        f.debug_struct("Record")
            .field("bytes", &bytes.len())
            .field("fresh", fresh)
            .field("life", life)
            .finish()
    }
}

/// Which marks are asked for.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it is what stores read")]
pub struct Watch<'w> {
    /// Whose marks.
    pub space: &'w Key,
    /// Of which tags, beside the mark of the whole space.
    pub tags: &'w [Key],
}

/// What is marked.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "it is what stores write")]
pub enum Marked<'m> {
    /// The whole space.
    All,
    /// These tags.
    Tags(&'m [Key]),
}

/// What was read: one for each key, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what stores answer")]
pub struct Reading {
    /// What each key holds.
    pub keys: Vec<Looked>,
    /// The marks that were asked for.
    pub marks: Option<Marks>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is what stores answer")]
pub enum Looked {
    /// An entry, fresh or stale.
    Held(Held),
    /// Nothing.
    Missed(Missed),
}

/// An entry, with what is left of it by the server's clock.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what stores answer")]
pub struct Held {
    /// The entry.
    pub bytes: Vec<u8>,
    /// For how long it is fresh still; zero when it is stale.
    pub fresh: Duration,
    /// For how long it is there still.
    pub life: Duration,
    /// How old it is at most.
    pub age: Duration,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("bytes", &self.bytes.len())
            .field("fresh", &self.fresh)
            .field("life", &self.life)
            .field("age", &self.age)
            .finish()
    }
}

/// A key that is to be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what stores answer")]
pub struct Missed {
    /// What a fill must show. Callers that miss one after another share it: whoever began while it stood has
    /// seen all that ended before it was given out.
    pub token: FillToken,
    /// How long ago somebody else was given it: he may be loading. `None` for the first.
    pub since: Option<Duration>,
}

impl Missed {
    /// How long memcache would have the caller wait before he looks again: nobody but the first loads within
    /// `lease` (ten seconds there). It is advice: who does not take it loads what is right as well.
    #[must_use]
    pub fn wait(&self, lease: Duration) -> Option<Duration> {
        let wait = lease.checked_sub(self.since?)?;
        (!wait.is_zero()).then_some(wait)
    }
}

/// The right to fill a key, for as long as nothing changes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FillToken([u8; 16]);

impl FillToken {
    /// A token that nobody else has: of random numbers, for epochs restart when a store is flushed.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// As a store keeps it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// As a store kept it.
    #[must_use]
    pub const fn of_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for FillToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FillToken")
    }
}

/// When an entry was made, as its store counts: the epoch of its marks, and how many were set before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "it is what stores answer")]
pub struct Stamp {
    /// A random number that the store chose when it began to count. It is below 2^53: Lua's numbers are
    /// doubles.
    pub epoch: u64,
    /// It grows with each mark.
    pub sequence: u64,
}

/// What a store knows of marks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is what stores answer")]
pub struct Marks {
    /// The stamp of what is made from now on.
    pub now: Stamp,
    /// Entries with a lower sequence are dead: the whole space was marked.
    pub floor: u64,
    /// The mark of each tag that was asked for, in their order; zero for one that was not marked within the
    /// life of any entry.
    pub tags: Vec<u64>,
}

impl Marks {
    /// Whether an entry with this stamp, of the tags that were asked for, is alive.
    #[must_use]
    pub fn allow(&self, stamp: Stamp) -> bool {
        stamp.epoch == self.now.epoch
            && stamp.sequence >= self.floor
            && self.tags.iter().all(|mark| stamp.sequence >= *mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_another_epoch_or_before_a_mark_is_not_believed_in() {
        let marks = |floor, tags: &[u64]| Marks {
            now: Stamp {
                epoch: 7,
                sequence: 100,
            },
            floor,
            tags: tags.to_vec(),
        };
        for (floor, tags, epoch, sequence, allowed) in [
            (0, &[][..], 7, 0, true),
            (10, &[], 7, 9, false),
            (10, &[], 7, 10, true),
            (0, &[5, 0], 7, 4, false),
            (0, &[5, 0], 7, 5, true),
            (0, &[0, 6], 7, 5, false),
            (0, &[], 8, 100, false),
        ] {
            let stamp = Stamp { epoch, sequence };
            assert_eq!(
                marks(floor, tags).allow(stamp),
                allowed,
                "{floor} {tags:?} {stamp:?}"
            );
        }
    }

    #[test]
    fn ca_30_the_second_is_told_to_wait_for_what_is_left_of_the_lease() {
        let lease = Duration::from_secs(10);
        let missed = |since: Option<u64>| Missed {
            token: FillToken::random(),
            since: since.map(Duration::from_secs),
        };
        assert_eq!(missed(None).wait(lease), None, "the first loads");
        assert_eq!(missed(Some(0)).wait(lease), Some(lease));
        assert_eq!(missed(Some(4)).wait(lease), Some(Duration::from_secs(6)));
        assert_eq!(missed(Some(10)).wait(lease), None);
        assert_eq!(missed(Some(11)).wait(lease), None);
    }
}
