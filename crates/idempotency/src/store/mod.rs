//! Where records are kept: the trait, and a store a file.
//!
//! A store of your own is judged by the suite in `testing` (feature `testing`).

mod memory;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{fmt, time::Duration};

use async_trait::async_trait;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
use buttress_store::Micros;
use buttress_store::{Fence, Lent, Phase, StoreError, StoreErrorKind, Token};
use bytes::Bytes;

pub use self::memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use self::mysql::MySqlStore;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
use crate::{Fingerprint, ScopedKey};
pub use crate::{
    completer::{Adopted, Adoption, Postponement},
    machine::{Decision, Record, State, decide, holds},
    progress::Checkpoint,
};

/// Somebody comes with a key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The key.
    pub key: &'a ScopedKey,
    /// What he asks for.
    pub fingerprint: Fingerprint,
    /// By what his claim is known, if he gets it.
    pub token: Token,
    /// For how long he gets it.
    pub lease: Duration,
    /// How long the record stays after its lease, if nobody finishes it.
    pub retention: Duration,
    /// What he asks for, whole, to be kept until it is done: so that it can be done without him.
    pub payload: Option<&'a [u8]>,
    /// Which completers may have it then: those of this name, of at most 64 bytes.
    pub driver: &'a str,
}

impl<'a> Request<'a> {
    /// Somebody comes with a key.
    #[must_use]
    pub const fn new(
        key: &'a ScopedKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
        retention: Duration,
    ) -> Self {
        Self {
            key,
            fingerprint,
            token,
            lease,
            retention,
            payload: None,
            driver: "",
        }
    }

    /// The same, of which this is to be kept.
    #[must_use]
    pub const fn with_payload(mut self, payload: Option<&'a [u8]>) -> Self {
        self.payload = payload;
        self
    }

    /// The same, for the completers of this name.
    #[must_use]
    pub const fn for_driver(mut self, driver: &'a str) -> Self {
        self.driver = driver;
        self
    }
}

/// What he is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It is his, and the store knows him by this. An epoch above one says that somebody had it
    /// before and did not finish.
    Claimed(Fence),
    /// As `Claimed`, and whoever had it before had passed these phases.
    Resumed(Fence, Bytes),
    /// It was done, and this came of it.
    Done(Bytes),
    /// Somebody else has it.
    #[non_exhaustive]
    InFlight {
        /// For so long, unless he finishes or goes on longer; zero when it is not known.
        remaining: Duration,
        /// Nobody works on it: it was left in doubt, and is left alone until then.
        unknown: bool,
    },
    /// The key was used for something else.
    Mismatch,
}

impl Answer {
    /// It is his; whoever had it before had passed these phases, if any.
    #[must_use]
    pub fn claimed(fence: Fence, progress: Bytes) -> Self {
        match progress.is_empty() {
            true => Self::Claimed(fence),
            false => Self::Resumed(fence, progress),
        }
    }

    /// Somebody else has it.
    #[must_use]
    pub const fn in_flight(remaining: Duration, unknown: bool) -> Self {
        Self::InFlight { remaining, unknown }
    }
}

/// What a store can do in a transaction of the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InTransaction {
    /// There are none.
    Nothing,
    /// Complete a claim that was made before it.
    Completes,
    /// Claim as well, while duplicates are told at once that they are.
    Claims,
}

/// What a store can keep beside a claim and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Keeps {
    /// Nothing.
    Nothing,
    /// The phases that were passed.
    Progress,
    /// And what was asked for, so that a [`Completer`](crate::Completer) finishes it.
    Requests,
}

/// A key whose work was begun and not finished, and which nobody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// The key.
    pub key: ScopedKey,
    /// How often it was begun.
    pub epoch: i64,
    /// For how long nobody has held it.
    pub idle: Duration,
    /// How often a [`Completer`](crate::Completer) has driven it.
    pub drives: u32,
    /// No completer will have it again, for it was driven in vain.
    pub parked: bool,
}

impl Unfinished {
    /// One that was begun `epoch` times, and was last held `idle` ago.
    #[must_use]
    pub const fn new(key: ScopedKey, epoch: i64, idle: Duration) -> Self {
        Self {
            key,
            epoch,
            idle,
            drives: 0,
            parked: false,
        }
    }

    /// The same, which was driven so often, and perhaps is parked.
    #[must_use]
    pub const fn driven(mut self, drives: u32, parked: bool) -> Self {
        self.drives = drives;
        self.parked = parked;
        self
    }
}

/// Keeps the records. Every method is one step: it happens as a whole or not at all, and by the
/// store's own clock. Each has a deadline of its own, and says in its error whether it was done.
///
/// Whatever carries a fence takes effect only while it is the record's, and answers whether it did.
/// Said twice under one fence it answers the same twice, for an answer may have been lost; only a
/// release finds nothing the second time.
///
/// Every future may be dropped; the step then happened, or will, or not.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Decides by [`decide`], and writes the claim if it is one.
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError>;

    /// The claim holds for `lease` from now, its record for `retention` more.
    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError>;

    /// It is done, and this came of it: kept for `retention` from now.
    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError>;

    /// It was not done: the record goes, unless it is done. One of an epoch above one, or that has
    /// passed a phase, stays, free to be taken at once: there may have been an effect, and the next
    /// must see that. What was kept of the request goes, for who asked is told.
    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError>;

    /// As [`release`](Self::release), of work of which nobody was told how it ended: where the record
    /// stays, what was kept of the request stays too, and a completer may have it.
    async fn hand_back(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.release(key, fence).await
    }

    /// Nobody knows whether it was done: it is left alone until its lease is over, unless it is
    /// done.
    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError>;

    /// Removes up to `limit` records that have expired, and says how many. Zero for a store that
    /// forgets by itself.
    async fn reap(&self, limit: u32) -> Result<u64, StoreError>;

    /// Up to `limit` keys that were begun, are not done, and whose lease has been over for `idle`:
    /// those that have waited longest first.
    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError>;

    /// What it can keep beside a claim and its outcome.
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    /// A phase is passed: what was passed is from now on `checkpoint.after`, if it was
    /// `checkpoint.before` bytes long, or is that already (an answer may have been lost). Drives of
    /// a key that gets on are counted from zero again, and one that was parked is due.
    async fn checkpoint(
        &self,
        _: &ScopedKey,
        _: Fence,
        _: &Checkpoint,
    ) -> Result<bool, StoreError> {
        Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect))
    }

    /// As [`checkpoint`](Self::checkpoint), in the user's transaction; but `false` when it is that
    /// already, for then the transaction's other writes would be there twice.
    async fn checkpoint_in(
        &self,
        _: Lent<'_>,
        _: &ScopedKey,
        _: Fence,
        _: &Checkpoint,
    ) -> Result<bool, StoreError> {
        Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect))
    }

    /// Claims one key that nobody finishes, whose request was kept for this driver, and counts a
    /// drive: the one that has been due longest of those that the adoption asks for. Never one that another has,
    /// and never waits for one.
    async fn adopt(&self, _: &Adoption) -> Result<Option<Adopted>, StoreError> {
        Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect))
    }

    /// After a drive that did not finish it: when it may be driven again.
    async fn postpone(&self, _: &ScopedKey, _: Fence, _: Postponement) -> Result<bool, StoreError> {
        Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect))
    }

    /// The drives of this key are counted from zero again, and it is due, unless it is done.
    async fn unpark(&self, _: &ScopedKey) -> Result<bool, StoreError> {
        Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect))
    }

    /// What it can do in a transaction of the user's.
    fn in_transaction(&self) -> InTransaction {
        InTransaction::Nothing
    }

    /// As [`claim`](Self::claim), in the user's transaction. A duplicate elsewhere must be told
    /// that it is in flight without waiting for that transaction.
    async fn claim_in(&self, _: Lent<'_>, _: &Request<'_>) -> Result<Answer, StoreError> {
        Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect))
    }

    /// As [`complete`](Self::complete), in the user's transaction.
    async fn complete_in(
        &self,
        _: Lent<'_>,
        _: &ScopedKey,
        _: Fence,
        _: &Bytes,
        _: Duration,
    ) -> Result<bool, StoreError> {
        Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect))
    }

    /// Writes in the user's transaction that the key is done, unless it is: then `false`. Waits
    /// for another transaction that is just writing it.
    async fn take_in(&self, _: Lent<'_>, _: &ScopedKey, _: Duration) -> Result<bool, StoreError> {
        Err(StoreError::new(StoreErrorKind::Misused, Phase::Connect))
    }
}

/// How often a store looks again when a record changed while it looked.
#[cfg(any(feature = "mysql", feature = "postgres"))]
const LOOKS: u32 = 5;

/// A key is given back: its record is removed where it may go, which only that of a first claim may,
/// and freed where it must stay. Each says of how many rows it was true.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
async fn freed(
    fence: Fence,
    remove: impl Future<Output = Result<u64, StoreError>>,
    free: impl Future<Output = Result<u64, StoreError>>,
) -> Result<bool, StoreError> {
    Ok((fence.epoch() == 1 && remove.await? > 0) || free.await? > 0)
}

/// On how many bytes it stands, as MySQL and SQLite count them.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
fn length_before(checkpoint: &Checkpoint) -> i64 {
    i64::try_from(checkpoint.before).unwrap_or(i64::MAX)
}

/// A duration as stores count it.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A record as its row has it: epoch, token, fingerprint, state, lease until, expires at, outcome,
/// progress.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
type Row = (
    i64,
    Vec<u8>,
    Vec<u8>,
    i16,
    i64,
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);

/// An adopted key as its row has it: id, epoch, fingerprint, request, progress, drives.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
type Orphaned = (Vec<u8>, i64, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, i64);

/// What the row says of a key that was adopted under this token.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn adopted(row: Orphaned, token: Token) -> Result<Adopted, StoreError> {
    let (id, epoch, fingerprint, request, progress, drives) = row;
    match (
        ScopedKey::from_bytes(&id),
        Fingerprint::from_bytes(&fingerprint),
        request,
    ) {
        (Some(key), Some(fingerprint), Some(request)) => {
            let fence = Fence::new(epoch, token);
            let progress = progress.unwrap_or_default().into();
            let drives = u32::try_from(drives).unwrap_or(u32::MAX);
            let kept = [request.into(), progress];
            Ok(Adopted::new(key, fence, fingerprint, kept, drives))
        }
        _ => Err(corrupt()),
    }
}

/// What the row says. One that somebody else wrote, or another version, is an error: it is
/// neither replayed nor taken for absent.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn record(row: Row) -> Result<Record, StoreError> {
    let (epoch, token, fingerprint, state, lease_until, expires_at, outcome, progress) = row;
    let token = token.try_into().map(Token::from_bytes).ok();
    let lease_until = Micros::new(lease_until);
    let state = match (state, outcome) {
        (0, _) => Some(State::running(lease_until)),
        (1, _) => Some(State::unknown(lease_until)),
        (2, Some(outcome)) => Some(State::Done(outcome.into())),
        _ => None,
    };
    match (token, Fingerprint::from_bytes(&fingerprint), state) {
        (Some(token), Some(fingerprint), Some(state)) => {
            let fence = Fence::new(epoch, token);
            let expires_at = Micros::new(expires_at);
            let record = Record::new(fence, fingerprint, state, expires_at);
            Ok(record.with_progress(progress.unwrap_or_default().into()))
        }
        _ => Err(corrupt()),
    }
}

/// A record that cannot be read.
#[cfg(any(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
const fn corrupt() -> StoreError {
    StoreError::new(StoreErrorKind::Broken, Phase::Read)
}

/// What is found of unfinished keys: id, epoch, idle microseconds, drives, whether it is parked.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn unfinished(rows: Vec<(Vec<u8>, i64, i64, i64, bool)>) -> Vec<Unfinished> {
    rows.into_iter()
        .filter_map(|(id, epoch, idle, drives, parked)| {
            let idle = Duration::from_micros(u64::try_from(idle).unwrap_or(0));
            let drives = u32::try_from(drives).unwrap_or(u32::MAX);
            let key = ScopedKey::from_bytes(&id)?;
            Some(Unfinished::new(key, epoch, idle).driven(drives, parked))
        })
        .collect()
}
