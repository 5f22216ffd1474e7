//! SQLite: how a database is opened, and its one writer.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Semaphore;

use super::Guarded;
use crate::{Deadline, Phase, StoreError, StoreErrorKind};

/// How long a writer waits for another process' write lock before it is told `SQLITE_BUSY`.
const BUSY: Duration = Duration::from_secs(5);

/// The options that stores ask of a database file, which is made if it is absent: a write-ahead
/// log, so that readers and the writer do not wait for each other; every commit on the disk
/// (`synchronous=FULL`: with `NORMAL` a power cut takes the last ones back); five seconds of
/// patience with other processes; foreign keys.
///
/// Open pools with `connect_lazy_with`: while another process makes the same file, opening it fails
/// with `SQLITE_BUSY` at once, and what is ours tries again where `connect_with` does not.
///
/// Your own writes should begin with BEGIN IMMEDIATE too, or go through a [`Writer`]: a
/// transaction that reads first and writes later can fail with `SQLITE_BUSY_SNAPSHOT`, which no
/// patience helps.
#[must_use]
pub fn options(file: impl AsRef<Path>) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true)
}

/// The one writer of a database file, fed by many tasks.
///
/// SQLite lets one write at a time, and makes the others poll for their turn, unfairly and with
/// growing naps. Here they stand in a queue: first come, first served, and whoever drops his
/// future leaves it. Clones are the same queue; make one for each file in a process.
#[derive(Clone)]
pub struct Writer {
    pool: SqlitePool,
    queue: Arc<Semaphore>,
}

impl Writer {
    /// The writer of the database that `pool` is open on.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self {
            pool,
            queue: Arc::new(Semaphore::new(1)),
        }
    }

    /// Waits for its turn and begins a transaction, by the deadline. The turn ends with it.
    ///
    /// Dropping the future leaves the queue, and leaves nothing open.
    ///
    /// # Errors
    ///
    /// [`StoreError`], always of the class not done.
    pub async fn begin(&self, deadline: Deadline) -> Result<Guarded<Sqlite>, StoreError> {
        let queue = Arc::clone(&self.queue);
        let turn = deadline
            .run(Phase::Connect, async {
                let turn = queue.acquire_owned().await;
                // Nobody closes this queue.
                turn.map_err(|_| StoreError::new(StoreErrorKind::Misused, Phase::Connect))
            })
            .await?;
        let transaction = Guarded::begin(&self.pool, deadline).await?;
        Ok(transaction.in_turn(turn))
    }

    /// The pool, for readers.
    #[must_use]
    pub const fn pool(&self) -> &SqlitePool {
        &self.pool
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
