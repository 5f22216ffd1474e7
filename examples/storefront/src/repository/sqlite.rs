//! SQLite: the default, embedded. Many readers, one writer that tasks queue for.

use std::time::Duration;

use sqlx::{
    Sqlite, SqliteConnection, Transaction,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};

use super::{Result, StoreError, connect::ConnectError, migrate::migrator};

#[path = "queries/mod.rs"]
mod queries;

pub(super) type Dialect = Sqlite;
pub(super) type Connection = SqliteConnection;

/// How long a query waits for a connection, and a writer of another process for the lock.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Store {
    read: SqlitePool,
    write: SqlitePool,
}

impl Store {
    pub(super) async fn connect(url: &str) -> Result<Self, ConnectError> {
        let options: SqliteConnectOptions = url.parse().map_err(|_| ConnectError::BadUrl)?;
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Through a crash of the machine as well, not of the process alone.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE);
        // Waiting for the one writer's turn here is fair; waiting for SQLite's lock is not.
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE)
        };
        let write = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(StoreError::from)?;
        let store = Self {
            read: pool(8).connect_lazy_with(options),
            write,
        };
        let mut tx = store.begin_write().await?;
        let schema = include_str!("../../migrations/sqlite/0001_shop.sql");
        migrator(schema).run(&mut *tx).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(store)
    }

    fn reader(&self) -> &SqlitePool {
        &self.read
    }

    fn writer(&self) -> &SqlitePool {
        &self.write
    }

    /// A transaction that holds the write lock from its beginning: one that begins as a reader
    /// and turns writer fails at once when another has written in between.
    async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// The time in microseconds since 1970. SQLite is embedded, so the host's clock is its clock.
async fn now(_: &mut Connection) -> Result<i64> {
    Ok(jiff::Timestamp::now().as_microsecond())
}
