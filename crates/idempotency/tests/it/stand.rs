//! What the tests stand on: a store of each kind, with what it is in.

use std::time::Duration;

use buttress_idempotency::{
    Begin, Fingerprint, Guard, Key, Scope, ScopedKey,
    store::{MySqlStore, PostgresStore, RedisStore, SqliteStore},
};
use buttress_store::{RedisConnection, sqlite};
use buttress_testkit as testkit;

pub(crate) const ASKED: Fingerprint = Fingerprint::new(1, [1; 32]);
pub(crate) const OTHER: Fingerprint = Fingerprint::new(1, [2; 32]);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn key(name: &str) -> ScopedKey {
    Scope::of(["tests"]).key(&Key::new(name).unwrap())
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
    let pool = sqlx::sqlite::SqlitePoolOptions::new()
        .max_connections(4)
        .connect_lazy_with(sqlite::options(file));
    let writer = sqlite::Writer::new(pool);
    let store = SqliteStore::new(writer.clone());
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
        let store = PostgresStore::new(pool.clone());
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
        let store = MySqlStore::new(pool.clone());
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
    RedisStore::with_prefix(RedisConnection::new(connection), prefix).unwrap()
}
