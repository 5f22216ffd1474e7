//! A connection from a pool that is given up, not given back, unless all went well.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Pool, pool::PoolConnection};

use super::SqlDatabase;
use crate::{Deadline, Phase, StoreError, StoreErrorKind};

/// How soon a database is opened again that was just being made by another process.
const AGAIN: Duration = Duration::from_millis(10);

/// A pool's connection for statements that are transactions by themselves.
///
/// Dropping it closes the connection: a future on it may have been dropped in the middle of a
/// statement, or a deadline struck. [`give_back`](Self::give_back) returns it to the pool.
/// On SQLite nothing can be in the middle of something, and it always goes back.
pub struct Loan<DB: SqlDatabase> {
    connection: Option<PoolConnection<DB>>,
    deadline: Deadline,
    /// Whether a transaction was begun on it, as far as anybody can know.
    open: bool,
}

impl<DB: SqlDatabase> Loan<DB> {
    /// Gets a connection from the pool, by the deadline.
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`StoreError`], always of the class not done.
    pub async fn acquire(pool: &Pool<DB>, deadline: Deadline) -> Result<Self, StoreError> {
        loop {
            match deadline.run(Phase::Connect, pool.acquire()).await {
                Ok(connection) => {
                    return Ok(Self {
                        connection: Some(connection),
                        deadline,
                        open: false,
                    });
                }
                // SQLite says so at once, whatever patience it was told to have, while another
                // process gives the same new file its write-ahead log.
                Err(error)
                    if error.kind() == StoreErrorKind::Contended
                        && !deadline.remaining().is_zero() =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// When the whole operation must be over. Each statement goes through [`Deadline::run`].
    #[must_use]
    pub const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Returns the connection to the pool. Only when every future on it has run to its end.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            DB::give_back(connection);
        }
    }

    /// From here on a drop is a drop of a transaction.
    pub(super) const fn opens(&mut self) {
        self.open = true;
    }
}

/// # Panics
///
/// Never: the connection is taken only by what consumes the loan.
impl<DB: SqlDatabase> Deref for Loan<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        self.connection
            .as_ref()
            .expect("it is taken only by what consumes the loan")
    }
}

impl<DB: SqlDatabase> DerefMut for Loan<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        self.connection
            .as_mut()
            .expect("it is taken only by what consumes the loan")
    }
}

impl<DB: SqlDatabase> fmt::Debug for Loan<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("dialect", &DB::DIALECT)
            .finish_non_exhaustive()
    }
}

impl<DB: SqlDatabase> Drop for Loan<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            DB::abandon(connection, self.open);
        }
    }
}
