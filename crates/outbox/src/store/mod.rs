//! Where messages are kept until they are delivered: a closed trait, and one dialect a file.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "postgres")]
pub use self::postgres::AppendAfter;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{Dialect, Fence, Lent, MigrateError, StoreError};

use crate::{
    machine::History,
    message::{Due, Topic},
    operations::{Counts, DeadRow, PastRow, WaitingRow},
    policy::AfterDeath,
    wake::{Announcer, Wake},
};

/// The tables of outbox and inbox, on a pool of yours. Cheap to clone; clones share the wake-up
/// hint, so make one for each database and process.
///
/// [`migrate`](Self::migrate) makes the tables. Nothing is opened or migrated by itself.
#[derive(Clone)]
pub struct OutboxStore {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) wake: Wake,
    pub(crate) announcer: Option<Announcer>,
    /// Topics whose messages go to the stream.
    pub(crate) rings: Arc<BTreeSet<String>>,
}

impl OutboxStore {
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    fn new(store: impl Store + 'static) -> Self {
        Self {
            store: Arc::new(store),
            wake: Wake::default(),
            announcer: None,
            rings: Arc::default(),
        }
    }

    /// Its SQL.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.store.dialect()
    }

    /// Makes what is missing of the tables; from many processes at once as well.
    ///
    /// Dropping the future stops it at the statement under way; run it again.
    ///
    /// # Errors
    ///
    /// As [`Migrations::migrate`](buttress_store::Migrations::migrate).
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        self.store.migrate().await
    }

    /// Whether all tables are there, by a read.
    ///
    /// # Errors
    ///
    /// As [`Migrations::check`](buttress_store::Migrations::check).
    pub async fn check(&self) -> Result<(), MigrateError> {
        self.store.check().await
    }

    /// The SQL of the tables, for people with a migration tool of their own.
    #[must_use]
    pub fn print(&self) -> String {
        self.store.print()
    }
}

impl fmt::Debug for OutboxStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxStore")
            .field("dialect", &self.dialect())
            .finish_non_exhaustive()
    }
}

/// A message to be appended.
#[derive(Debug)]
pub(crate) struct NewRow<'m> {
    pub(crate) topic: &'m str,
    pub(crate) lane: i16,
    pub(crate) key: Vec<u8>,
    pub(crate) attributes: Vec<u8>,
    pub(crate) payload: &'m [u8],
    pub(crate) due: Due,
    /// It may go to the stream.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(dead_code, reason = "no other dialect has one")
    )]
    pub(crate) ring: bool,
}

impl NewRow<'_> {
    /// Microseconds of delay, and the time before which it is not due; zero where there is none.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    fn due_parts(&self) -> (i64, i64) {
        match self.due {
            Due::Now => (0, 0),
            Due::After(delay) => (micros(delay), 0),
            Due::At(at) => (0, at.get()),
        }
    }
}

/// A lane, as its owner holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) lane: i16,
    pub(crate) fence: Fence,
}

/// A lane that was just claimed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    pub(crate) held: Held,
    /// Its last owner did not hand it back.
    pub(crate) lapsed: bool,
    /// The one message that its last owner was publishing by itself.
    pub(crate) alone: Option<i64>,
    /// It may have messages in the stream.
    pub(crate) ring: bool,
}

/// From where to where a lane of the ring is read.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "postgres"),
    allow(dead_code, reason = "no other dialect has one")
)]
pub(crate) struct Reach {
    pub(crate) lane: i16,
    /// In the table of messages: from this id on.
    pub(crate) low: i64,
    /// In the stream: behind this id.
    pub(crate) position: i64,
    /// In both: up to this id.
    pub(crate) upto: i64,
}

/// What became of the pieces of the ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Truncated {
    pub(crate) pieces: usize,
    /// Pieces that hold something which is not settled, though their time has passed.
    pub(crate) pinned: usize,
    /// Somebody reads in them, or has written and not ended.
    pub(crate) busy: usize,
}

/// What a heartbeat learned.
#[derive(Debug, Default)]
pub(crate) struct Beat {
    /// The lanes that are still held.
    pub(crate) kept: Vec<i16>,
    /// The relays that are alive, this one included.
    pub(crate) relays: u32,
    /// Somebody paused the topic.
    pub(crate) paused: bool,
}

/// What a read leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaveOut {
    /// Nothing: no key is set aside.
    Nothing,
    /// Keys that wait.
    Waiting,
    /// All keys that are set aside, due or not: the read does not begin at the lane's start.
    Aside,
}

/// What tells from where on a lane may be read. An id below all that can be seen may yet be
/// committed, and after it a later one of the same key, which must not overtake it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, reason = "each is a dialect's")
)]
pub(crate) enum Bounds {
    /// One transaction writes at a time: ids are committed in the order in which they are given.
    InOrder,
    /// [`Store::sight`], again and again.
    Watched,
    /// Nothing: every read begins at the start.
    Unknown,
}

/// A look at who writes into the table of messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sighting {
    /// Ids are given one by one, each greater than all before.
    pub(crate) in_order: bool,
    /// The last that was given, if that may be asked.
    pub(crate) given: Option<i64>,
    /// Transactions that have written, or are about to, and have not ended: each from before it is
    /// given an id, until what it did can be seen by others.
    pub(crate) writers: Vec<String>,
    /// One of them is prepared for a commit in two phases, and has another name than before.
    pub(crate) prepared: bool,
}

/// A message as it was read.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) lane: i16,
    pub(crate) id: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) created_at: i64,
    /// When it is due, if that is not yet.
    pub(crate) early: Option<i64>,
    pub(crate) attributes: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// It is in the stream.
    pub(crate) stream: bool,
    /// It is in the stream, and its key is set aside.
    pub(crate) held: bool,
}

/// A key that is set aside, as it was read.
#[derive(Debug)]
pub(crate) struct AsideRow {
    pub(crate) lane: i16,
    pub(crate) key: Vec<u8>,
    pub(crate) head: i64,
    pub(crate) history: History,
}

/// Until when a key is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    After(Duration),
    At(i64),
    /// Until somebody decides.
    Told,
}

impl Until {
    /// Microseconds from now, and the time that comes instead of it.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    fn parts(self) -> (i64, Option<i64>) {
        match self {
            Self::After(wait) => (micros(wait), None),
            Self::At(at) => (0, Some(at)),
            Self::Told => (0, Some(i64::MAX)),
        }
    }
}

/// A key to be set aside.
#[derive(Clone, Debug)]
pub(crate) struct SetAside {
    pub(crate) lane: i16,
    pub(crate) key: Vec<u8>,
    pub(crate) head: i64,
    pub(crate) history: History,
    pub(crate) until: Until,
    pub(crate) error: String,
}

/// A message that has died.
#[derive(Clone, Debug)]
pub(crate) struct Died {
    pub(crate) lane: i16,
    pub(crate) id: i64,
    pub(crate) history: History,
    pub(crate) error: String,
    pub(crate) then: AfterDeath,
}

/// What became of messages, to be written in one commit under the lanes' fences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settlement {
    /// In rising order of lanes.
    pub(crate) held: Vec<Held>,
    /// Keep what was delivered.
    pub(crate) keep: bool,
    pub(crate) delivered: Vec<(i16, i64)>,
    /// Keys that are not set aside any more.
    pub(crate) forget: Vec<(i16, Vec<u8>)>,
    pub(crate) aside: Vec<SetAside>,
    pub(crate) died: Vec<Died>,
    /// Lanes whose lone message has come to something.
    pub(crate) not_alone: Vec<i16>,
    /// How far lanes of the ring have settled their stream. What is not among `streamed` up to
    /// there is moved to the table of messages, whatever was believed about it.
    pub(crate) passed: Vec<(i16, i64)>,
    /// What was delivered of the stream.
    pub(crate) streamed: Vec<(i16, i64)>,
}

impl Settlement {
    /// Drops what is not in these lanes.
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    fn keep_to(&mut self, mine: &[i16]) {
        let own = |lane: &i16| mine.contains(lane);
        self.delivered.retain(|(lane, _)| own(lane));
        self.forget.retain(|(lane, _)| own(lane));
        self.aside.retain(|it| own(&it.lane));
        self.died.retain(|it| own(&it.lane));
        self.not_alone.retain(own);
        self.passed.retain(|(lane, _)| own(lane));
        self.streamed.retain(|(lane, _)| own(lane));
    }
}

/// What an ear heard.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "postgres"),
    allow(dead_code, reason = "no other dialect has ears")
)]
pub(crate) enum Heard {
    /// It has just begun to listen.
    Listening,
    /// A hint, by this sender.
    From(String),
}

/// One dialect. Each operation keeps to the store's gate, has a deadline, and may be dropped at
/// every point.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    fn dialect(&self) -> Dialect;
    /// What tells from where on a lane may be read.
    fn bounds(&self) -> Bounds;
    /// How many lanes a topic has: fixed, for a key must stay in its lane.
    fn lanes(&self) -> i16;
    async fn migrate(&self) -> Result<(), MigrateError>;
    async fn check(&self) -> Result<(), MigrateError>;
    fn print(&self) -> String;

    /// In the user's transaction.
    async fn append(&self, connection: Lent<'_>, rows: &[NewRow<'_>]) -> Result<(), StoreError>;

    /// The head of an append that rides in another statement, where the dialect can do that.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(dead_code, reason = "no other dialect can do it")
    )]
    fn insert_into(&self) -> Option<&str> {
        None
    }

    /// The same into the stream, and the table of topics that may use it.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(dead_code, reason = "no other dialect can do it")
    )]
    fn insert_into_stream(&self) -> Option<(&str, &str)> {
        None
    }

    /// Hints at all who listen, other processes too, where the dialect can do that.
    async fn notify(&self, _sender: &str) -> Result<(), StoreError> {
        Ok(())
    }
    /// Hears what is hinted at until that fails. `Ok`: the dialect cannot do it.
    async fn listen(&self, _heard: &(dyn Fn(Heard) + Sync)) -> Result<(), StoreError> {
        Ok(())
    }

    /// Makes the topic's lanes, once.
    async fn prepare(&self, topic: &Topic) -> Result<(), StoreError>;
    async fn beat(
        &self,
        topic: &Topic,
        relay: &[u8; 16],
        lease: Duration,
        held: &[Held],
    ) -> Result<Beat, StoreError>;
    async fn claim(
        &self,
        topic: &Topic,
        lease: Duration,
        most: u32,
    ) -> Result<Vec<Claimed>, StoreError>;
    /// All lanes of the topic, or none, where the dialect has [`line`](Self::line).
    async fn claim_all(
        &self,
        _topic: &Topic,
        _lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        Ok(Vec::new())
    }
    async fn release(&self, topic: &Topic, held: &[Held]) -> Result<(), StoreError>;
    async fn leave(&self, topic: &Topic, relay: &[u8; 16]) -> Result<(), StoreError>;

    /// Keys of these lanes that are set aside, at most `most`.
    async fn asides(
        &self,
        topic: &Topic,
        lanes: &[i16],
        most: u32,
    ) -> Result<Vec<AsideRow>, StoreError>;
    /// Of each lane a run of its rows from that id on, in order and without a gap; together at
    /// most `limit`, of one lane about `per_lane` where the dialect can say so.
    async fn window(
        &self,
        topic: &Topic,
        from: &[(i16, i64)],
        leave_out: LeaveOut,
        per_lane: u32,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError>;
    /// The next rows of all lanes together, from each lane's id on, in the order of their ids and
    /// without a gap; nothing while a key waits. Where the dialect can tell which ids are decided.
    async fn line(
        &self,
        _topic: &Topic,
        _from: &[(i16, i64)],
        _limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }
    /// Makes lanes of the topic that nobody holds lanes of the ring. True: all are, and messages go
    /// to the stream from now on.
    async fn ring(&self, _topic: &Topic) -> Result<bool, StoreError> {
        Ok(true)
    }
    /// How far these lanes have settled their stream. They must be held.
    async fn positions(
        &self,
        _topic: &Topic,
        _lanes: &[i16],
    ) -> Result<Vec<(i16, i64)>, StoreError> {
        Ok(Vec::new())
    }
    /// [`window`](Self::window) of both tables as if they were one, of lanes of the ring; of the
    /// stream nothing is left out.
    async fn ring_window(
        &self,
        _topic: &Topic,
        _from: &[Reach],
        _leave_out: LeaveOut,
        _per_lane: u32,
        _limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }
    /// Empties pieces of the ring in which all is settled.
    async fn truncate(&self) -> Result<Truncated, StoreError> {
        Ok(Truncated::default())
    }
    /// Who writes into the table, where that [bounds](Bounds::Watched) what may yet be committed.
    async fn sight(&self) -> Result<Sighting, StoreError> {
        Ok(Sighting::default())
    }
    /// Notes that this message alone is being published of its lane. False: the lane is lost.
    async fn alone(&self, topic: &Topic, held: Held, id: i64) -> Result<bool, StoreError>;
    /// Returns the lanes that were still held; of the others nothing was written.
    async fn settle(&self, topic: &Topic, settlement: Settlement) -> Result<Vec<i16>, StoreError>;

    async fn counts(&self, topic: &Topic) -> Result<Counts, StoreError>;
    async fn dead(&self, topic: &Topic, after: i64, most: u32) -> Result<Vec<DeadRow>, StoreError>;
    /// All that is there, delivered or not, as of one moment.
    async fn history(
        &self,
        topic: &Topic,
        after: i64,
        most: u32,
    ) -> Result<Vec<PastRow>, StoreError>;
    /// Puts a dead letter back to its place, with these attributes if there are any.
    async fn requeue(
        &self,
        topic: &Topic,
        id: i64,
        attributes: Option<Vec<u8>>,
    ) -> Result<bool, StoreError>;
    /// Forgets a dead letter, and lets its key go on.
    async fn skip(&self, topic: &Topic, id: i64) -> Result<bool, StoreError>;
    async fn waiting(&self, topic: &Topic, most: u32) -> Result<Vec<WaitingRow>, StoreError>;
    async fn unblock(&self, topic: &Topic, lane: i16, key: &[u8]) -> Result<bool, StoreError>;
    async fn pause(&self, topic: &Topic, reason: Option<&str>) -> Result<(), StoreError>;
    /// Removes what was kept longer than that, and marks of keys that have no messages any more.
    async fn prune(&self, topic: &Topic, kept: Duration, most: u32) -> Result<u64, StoreError>;

    /// In the user's transaction. True: it had not been taken.
    async fn take(
        &self,
        connection: Lent<'_>,
        consumer: &[u8],
        message: &[u8],
    ) -> Result<bool, StoreError>;
    /// What has committed: what is being taken is not yet taken.
    async fn was_taken(&self, consumer: &[u8], message: &[u8]) -> Result<bool, StoreError>;
    async fn prune_inbox(
        &self,
        consumer: &[u8],
        kept: Duration,
        most: u32,
    ) -> Result<u64, StoreError>;
}

/// For the database: what does not fit is for ever.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// A counter as it is stored.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn stored(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn history(failures: i32, lapses: i32, waits: i32) -> History {
    let count = |value: i32| u32::try_from(value).unwrap_or(0);
    History {
        failures: count(failures),
        lapses: count(lapses),
        waits: count(waits),
    }
}

/// Depth, age, waiting, blocked, dead, held, paused.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
type Counted = (i64, i64, i64, i64, i64, i64, bool);

/// And writers, with the age of the oldest, where these are told.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
fn counted(row: Counted, writers: (i64, i64)) -> Counts {
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    Counts {
        depth: count(row.0),
        oldest_age: Duration::from_micros(count(row.1)),
        waiting_keys: count(row.2),
        blocked_keys: count(row.3),
        dead: count(row.4),
        held_lanes: count(row.5),
        paused: row.6,
        writers: count(writers.0),
        oldest_writer: Duration::from_micros(count(writers.1)),
    }
}
