//! What the tests stand on: a store of each kind, with what it is in.

use std::time::Duration;

use async_trait::async_trait;
use buttress_idempotency::{
    Begin, Fingerprint, Guard, Key, Scope, ScopedKey,
    store::{
        Adopted, Adoption, Answer, Checkpoint, InTransaction, Keeps, MySqlStore, PostgresStore,
        Postponement, RedisStore, Request, SqliteStore, Store, Unfinished,
    },
};
use buttress_store::{
    Deadline, Fence, Gate, Lent, Phase, RedisConnection, StoreError, StoreErrorKind, sqlite,
};
use buttress_testkit::{
    self as testkit,
    fault::{Injected, Plan},
};
use bytes::Bytes;

pub(crate) const ASKED: Fingerprint = Fingerprint::new(1, [1; 32]);
pub(crate) const OTHER: Fingerprint = Fingerprint::new(1, [2; 32]);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn key(name: &str) -> ScopedKey {
    Scope::of(["tests"]).key(&Key::new(name).unwrap())
}

/// SQL that a test has put together: sqlx takes what lives for ever.
pub(crate) fn sql(text: String) -> &'static str {
    text.leak()
}

pub(crate) fn new<G: std::fmt::Debug>(begun: Begin<G>) -> G {
    match begun {
        Begin::New(guard) => guard,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn replayed(begun: &Begin<Guard>) -> &[u8] {
    match begun {
        Begin::Replay(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

/// A store on SQLite, in a folder of its own.
pub(crate) struct OnSqlite {
    pub(crate) writer: sqlite::Writer,
    pub(crate) store: SqliteStore,
    pub(crate) folder: tempfile::TempDir,
}

impl OnSqlite {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path().join("test.db").to_str().unwrap());
        store.1.migrate().await.unwrap();
        let (writer, store) = store;
        Self {
            writer,
            store,
            folder,
        }
    }
}

/// The same file, by another process or another pool.
pub(crate) fn open(file: &str) -> (sqlite::Writer, SqliteStore) {
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let pool = sqlx::sqlite::SqlitePoolOptions::new()
        .max_connections(4)
        .connect_lazy_with(sqlite::options(file));
    let writer = sqlite::Writer::new(pool);
    let store = SqliteStore::new(writer.clone()).unwrap();
    (writer, store)
}

/// A store on a database of its own.
pub(crate) struct OnPostgres {
    pub(crate) database: testkit::postgres::Database,
    pub(crate) pool: sqlx::PgPool,
    pub(crate) store: PostgresStore,
}

impl OnPostgres {
    pub(crate) async fn start() -> Option<Self> {
        let database = testkit::postgres::fresh_database().await?;
        let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
        let store = PostgresStore::new(pool.clone()).unwrap();
        store.migrate().await.unwrap();
        Some(Self {
            database,
            pool,
            store,
        })
    }

    pub(crate) async fn close(self) {
        self.pool.close().await;
        self.database.close().await.unwrap();
    }
}

/// A store on a database of its own.
pub(crate) struct OnMySql {
    pub(crate) database: testkit::mysql::Database,
    pub(crate) pool: sqlx::MySqlPool,
    pub(crate) store: MySqlStore,
}

impl OnMySql {
    pub(crate) async fn start() -> Option<Self> {
        let database = testkit::mysql::fresh_database().await?;
        let pool = sqlx::MySqlPool::connect(database.url()).await.unwrap();
        let store = MySqlStore::new(pool.clone()).unwrap();
        store.migrate().await.unwrap();
        Some(Self {
            database,
            pool,
            store,
        })
    }

    pub(crate) async fn close(self) {
        self.pool.close().await;
        self.database.close().await.unwrap();
    }
}

/// A store on Redis at this URL.
pub(crate) async fn on_redis(url: &str, prefix: &str) -> RedisStore {
    let client = redis::Client::open(url).unwrap();
    let connection = client.get_connection_manager().await.unwrap();
    let store = RedisStore::with_prefix(RedisConnection::new(connection), prefix).unwrap();
    // On a machine that does much else, half a second is soon over.
    store.with_gate(Gate::redis().with_deadline(10 * SECOND).unwrap())
}

/// A store to whose operations a plan does things. Each has a deadline, as a real one does.
#[derive(Debug)]
pub(crate) struct Faulty<S> {
    store: S,
    plan: Plan<StoreError>,
}

impl<S> Faulty<S> {
    pub(crate) const fn new(store: S, plan: Plan<StoreError>) -> Self {
        Self { store, plan }
    }

    async fn around<T>(
        &self,
        name: &'static str,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let deadline = Deadline::after(Duration::from_millis(500));
        let around = self.plan.around(name, operation);
        deadline.run(Phase::Statement, around).await
    }
}

/// What a store would say of an injected fault.
pub(crate) fn store_error(injected: Injected) -> StoreError {
    match injected.may_have_been_done() {
        true => StoreError::new(StoreErrorKind::Lost, Phase::Statement),
        false => StoreError::new(StoreErrorKind::Unreachable, Phase::Connect),
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.around("claim", self.store.claim(request)).await
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let extend = self.store.extend(key, fence, lease, retention);
        self.around("extend", extend).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let complete = self.store.complete(key, fence, outcome, retention);
        self.around("complete", complete).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.around("release", self.store.release(key, fence)).await
    }

    async fn hand_back(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.around("hand_back", self.store.hand_back(key, fence))
            .await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.around("doubt", self.store.doubt(key, fence)).await
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.around("reap", self.store.reap(limit)).await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.around("unfinished", self.store.unfinished(idle, limit))
            .await
    }

    fn keeps(&self) -> Keeps {
        self.store.keeps()
    }

    async fn checkpoint(
        &self,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let store = self.store.checkpoint(key, fence, checkpoint);
        self.around("checkpoint", store).await
    }

    async fn checkpoint_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let store = self.store.checkpoint_in(connection, key, fence, checkpoint);
        self.around("checkpoint_in", store).await
    }

    async fn adopt(&self, adoption: &Adoption) -> Result<Option<Adopted>, StoreError> {
        self.around("adopt", self.store.adopt(adoption)).await
    }

    async fn postpone(
        &self,
        key: &ScopedKey,
        fence: Fence,
        to: Postponement,
    ) -> Result<bool, StoreError> {
        self.around("postpone", self.store.postpone(key, fence, to))
            .await
    }

    async fn unpark(&self, key: &ScopedKey) -> Result<bool, StoreError> {
        self.around("unpark", self.store.unpark(key)).await
    }

    fn in_transaction(&self) -> InTransaction {
        self.store.in_transaction()
    }

    async fn claim_in(
        &self,
        connection: Lent<'_>,
        request: &Request<'_>,
    ) -> Result<Answer, StoreError> {
        let claim = self.store.claim_in(connection, request);
        self.around("claim_in", claim).await
    }

    async fn complete_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let complete = self
            .store
            .complete_in(connection, key, fence, outcome, retention);
        self.around("complete_in", complete).await
    }

    async fn take_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let take = self.store.take_in(connection, key, retention);
        self.around("take_in", take).await
    }
}
