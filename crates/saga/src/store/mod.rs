//! Where sagas are kept.

mod memory;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use buttress_store::{Fence, Key, Lent, Micros, StoreError, Token};

pub use self::memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use self::mysql::MySqlStore;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
use crate::{Entry, SagaId, State};

/// Where sagas and their journals are kept. A closed set of operations, each of which is atomic.
///
/// Times are the store's own. A store of one's own is judged by `testing::conformance` (feature
/// `testing`). Dropping a future leaves its operation done or not done, never half.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Records a saga, due at once, unless one of this id is there, or one of this name and
    /// business key that has not ended: then says which.
    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError>;

    /// The same in the user's transaction.
    async fn start_in(&self, connection: Lent<'_>, new: &NewSaga) -> Result<Started, StoreError>;

    /// Claims sagas that are due. Each is claimed by one caller only, until its lease ends.
    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError>;

    /// Makes a lease end `length` from now. `false`: it is another's.
    async fn extend(&self, id: SagaId, fence: Fence, length: Duration) -> Result<bool, StoreError>;

    /// Writes to a journal. `false`: it is another's, or has gone on since, and nothing was done. In
    /// the same commit it starts the children that [`Write::starts`] names, unless their ids are
    /// there, and wakes [`Write::wakes`] as a signal would.
    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError>;

    /// How many commits of several sagas' writes are worth being under way at once. Zero unless a
    /// store can do better: then each is written alone.
    fn batches_at_once(&self) -> usize {
        0
    }

    /// Writes to the journals of several sagas, no two of them the same, in one commit. For each,
    /// in order, whether it was written. It must not wait for whoever locks one of them: what is
    /// locked is not written, like what is another's, and is asked for again by
    /// [`append`](Self::append); and so is a write that [reaches](Write::reaches_others) more than
    /// its own saga. Unless a store can do better it writes none of them.
    async fn append_all(&self, writes: &[Append]) -> Result<Vec<bool>, StoreError> {
        Ok(vec![false; writes.len()])
    }

    /// The same as [`append`](Self::append) in the user's transaction.
    async fn append_in(
        &self,
        connection: Lent<'_>,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError>;

    /// Keeps a signal for a saga, unless one of its key is there. If the saga waits, held by nobody
    /// and [listening](Then::Listen), it is due at once.
    async fn signal(&self, signal: &NewSignal) -> Result<Sent, StoreError>;

    /// The same in the user's transaction.
    async fn signal_in(&self, connection: Lent<'_>, signal: &NewSignal)
    -> Result<Sent, StoreError>;

    /// What was sent to a saga: how many signals, counted with how often it was
    /// [woken](Write::wakes), and the first of this name. Both as of one moment, or the count of an
    /// earlier one.
    async fn signals(&self, id: SagaId, name: &str) -> Result<Signals, StoreError>;

    /// A saga with its journal.
    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError>;

    /// Those of these sagas that are there, with their journals, in any order. Unless a store can do
    /// better it reads one after the other.
    async fn read_all(&self, ids: &[SagaId]) -> Result<Vec<Record>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.extend(self.read(*id).await?);
        }
        Ok(found)
    }

    /// Sagas without their journals, the greatest id first.
    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError>;

    /// How many sagas there are, by definition and state.
    async fn census(&self) -> Result<Vec<Census>, StoreError>;

    /// Removes up to `limit` sagas that ended longer than `age` ago, and says how many. A child stays
    /// as long as its parent is there, which may yet have it undone.
    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError>;
}

/// What a saga's definition is known by: runners claim what they have, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct DefinitionKey {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// A hash of its steps' names and their order.
    pub shape: [u8; 16],
}

/// A saga that is to be recorded.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others read it")]
pub struct NewSaga {
    /// What it is called.
    pub id: SagaId,
    /// By which definition.
    pub definition: DefinitionKey,
    /// One of this name and key runs at a time.
    pub business_key: Option<Key>,
    /// As JSON.
    pub input: Vec<u8>,
    /// The saga whose child it is. The business key of a child keeps nobody from being started.
    pub parent: Option<SagaId>,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
pub enum Started {
    /// It is recorded, and will run.
    New(SagaId),
    /// One of that id, or of that business key, was there before: this one.
    Running(SagaId),
}

impl Started {
    /// The saga, new or not.
    #[must_use]
    pub const fn id(self) -> SagaId {
        match self {
            Self::New(id) | Self::Running(id) => id,
        }
    }
}

/// Which sagas are to be claimed.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others read it")]
pub struct Ask {
    /// Of which definition.
    pub definition: DefinitionKey,
    /// How many at most.
    pub limit: u32,
    /// For how long.
    pub length: Duration,
    /// What the claims are known by, beside their epochs.
    pub token: Token,
    /// `None`: those that nobody holds. Otherwise those whose holder let the lease run out, and
    /// whether the worker will have nothing else to do: only then another lapse is counted.
    pub lapsed: Option<Alone>,
}

/// Whether a worker has one saga to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
pub enum Alone {
    /// If it dies, it is this saga's doing.
    Yes,
    /// If it dies, it may be another's.
    No,
}

/// A claimed saga.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct Claimed {
    /// What the claim is known by.
    pub fence: Fence,
    /// The saga with its journal.
    pub record: Record,
}

/// On whose behalf something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
pub enum Hand {
    /// The holder of this claim; only while it is his.
    Holder(Fence),
    /// Somebody who intervenes. Whoever holds it loses it: the epoch grows.
    Operator,
}

/// What is written to a journal in one commit.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others read it")]
pub struct Write {
    /// How many lines the journal must have now.
    pub expected: u64,
    /// The lines that follow them.
    pub entries: Vec<Entry>,
    /// Where the saga stands then.
    pub state: State,
    /// Why it was turned back or parked.
    pub reason: Option<String>,
    /// What becomes of the claim. What has ended or is parked is held by nobody in any case.
    pub then: Then,
    /// It got further: deaths of workers before this do not count any more.
    pub progress: bool,
    /// Children that are started, due at once, unless they are there.
    pub starts: Vec<NewSaga>,
    /// The parent, if the saga has ended by this. If it waits, held by nobody and
    /// [listening](Then::Listen), it is due at once; in any case it counts as a signal.
    pub wakes: Option<SagaId>,
}

impl Write {
    /// Whether it is about more than the saga's own row and journal.
    #[must_use]
    pub fn reaches_others(&self) -> bool {
        !self.starts.is_empty() || self.wakes.is_some()
    }
}

/// One of several writes that go into one commit, by the holder of a claim.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others read it")]
pub struct Append {
    /// To whose journal.
    pub id: SagaId,
    /// Only while this claim is his.
    pub fence: Fence,
    /// What.
    pub write: Write,
}

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
pub enum Then {
    /// It goes on.
    Keep,
    /// It is given back, and the saga is due after this time.
    Release(Duration),
    /// The same, or with the next signal; at once, if more were sent than have been seen.
    Listen {
        /// After which time it is due without a signal.
        after: Duration,
        /// How many [were sent](Signals::count) when somebody looked.
        seen: u64,
    },
}

/// A saga, as it is kept.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct Record {
    /// What it is called.
    pub id: SagaId,
    /// By which definition it runs.
    pub definition: DefinitionKey,
    /// Its business key.
    pub business_key: Option<Key>,
    /// What it was started with, as JSON.
    pub input: Vec<u8>,
    /// Where it stands.
    pub state: State,
    /// Why it was turned back or parked.
    pub reason: Option<String>,
    /// When it may be claimed next.
    pub due_at: Micros,
    /// How often it was claimed, or taken from its holder.
    pub epoch: i64,
    /// Whether somebody holds it.
    pub held: bool,
    /// How many workers died on it alone since it last got further.
    pub lapses: u32,
    /// How many lines its journal has.
    pub entries: u64,
    /// When it was recorded.
    pub created_at: Micros,
    /// When it ended.
    pub ended_at: Option<Micros>,
    /// The saga whose child it is.
    pub parent: Option<SagaId>,
    /// When this was read, by the same clock.
    pub now: Micros,
    /// Its journal; empty where it was not asked for.
    pub journal: Vec<Line>,
}

/// A line of a journal: what, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct Line {
    /// When, by the store's clock.
    pub at: Micros,
    /// In which claim.
    pub epoch: i64,
    /// What.
    pub entry: Entry,
}

/// Which sagas are listed.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others read it")]
pub struct Filter {
    /// Of this name only.
    pub name: Option<String>,
    /// In this state only.
    pub state: Option<State>,
    /// Of this business key only.
    pub business_key: Option<Key>,
    /// Children of this saga only.
    pub parent: Option<SagaId>,
    /// Only those whose id is less.
    pub before: Option<SagaId>,
    /// How many at most.
    pub limit: u32,
}

/// How many sagas of a definition are in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct Census {
    /// Which definition.
    pub definition: DefinitionKey,
    /// Which state.
    pub state: State,
    /// How many.
    pub count: u64,
    /// For how long the one that is due longest has been; zero when none is due.
    pub overdue: Duration,
}

/// A signal that is to be kept for a saga.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of others read it")]
pub struct NewSignal {
    /// To which saga.
    pub saga: SagaId,
    /// What it is known by: of one key a saga has one signal.
    pub key: Key,
    /// What it is called: the name of the wait that takes it.
    pub name: String,
    /// As JSON.
    pub payload: Vec<u8>,
    /// How many a saga may have.
    pub most: u32,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of others make it")]
pub enum Sent {
    /// It is kept, and the saga is due if it listens.
    New,
    /// One of this key was there before, and nothing was done.
    Known,
    /// There is no such saga.
    Nobody,
    /// The saga has ended or is being undone: it will never look.
    Over(State),
    /// The saga has as many signals as it may.
    Full,
}

/// What was sent to a saga.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct Signals {
    /// Grows with each signal to the saga, of whatever name, and each [`Write::wakes`]: what [`Then::Listen`] is given.
    ///
    /// [`Then::Listen`]: crate::store::Then::Listen
    pub count: u64,
    /// The first of the name that was asked for.
    pub first: Option<Signal>,
}

/// A signal that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of others make it")]
pub struct Signal {
    /// When it was sent, by the store's clock.
    pub at: Micros,
    /// As JSON.
    pub payload: Vec<u8>,
}
