//! Transactions whose futures may be dropped at any point.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use buttress_core::Class;
use sqlx::{Pool, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::OwnedSemaphorePermit;

use super::{Isolation, Loan, SqlDatabase};
use crate::{Deadline, Phase, StoreError, class::StoreErrorKind};

/// A transaction on a pool's connection, safe to drop at every point.
///
/// With sqlx alone, a `pool.begin()` that is dropped while BEGIN is on its way returns its
/// connection with an open transaction (PostgreSQL and MySQL, sqlx 0.8 and 0.9): the next
/// borrower's INSERT says `Ok`, nobody sees the row, and it is gone when the connection is. Here a
/// connection is closed unless the transaction was ended, so it costs no round trip and no
/// request can inherit it.
///
/// It derefs to the connection: `query.execute(&mut *transaction)`. Each statement goes through
/// [`Deadline::run`] with [`Phase::InTransaction`]; sqlx has no deadline of its own.
/// On SQLite it is a BEGIN IMMEDIATE, and the connection is rolled back instead of closed.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_store::{Deadline, Guarded, Phase};
///
/// # let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
/// # sqlx::query("CREATE TABLE orders (id INTEGER)").execute(&pool).await?;
/// let deadline = Deadline::after(Deadline::SQL);
/// let mut transaction = Guarded::begin(&pool, deadline).await?;
/// let insert = sqlx::query("INSERT INTO orders VALUES (7)").execute(&mut *transaction);
/// deadline.run(Phase::InTransaction, insert).await?;
/// transaction.commit().await?;
/// # Ok(()) }
/// # #[cfg(not(feature = "sqlite"))] fn main() {}
/// ```
#[must_use = "dropping it closes its connection"]
pub struct Guarded<DB: SqlDatabase> {
    loan: Loan<DB>,
    /// The turn of the only writer, where there is one. Given back after the loan.
    turn: Option<OwnedSemaphorePermit>,
}

impl<DB: SqlDatabase> Guarded<DB> {
    /// Begins a transaction at the session's isolation level, by the deadline, which holds for the
    /// commit as well.
    ///
    /// Dropping the future closes the connection, if it had one already.
    ///
    /// # Errors
    ///
    /// [`StoreError`], always of the class not done.
    pub async fn begin(pool: &Pool<DB>, deadline: Deadline) -> Result<Self, StoreError> {
        Self::begin_at(Isolation::Session, pool, deadline).await
    }

    /// The same at an isolation level of one's own, without another round trip.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_at(
        isolation: Isolation,
        pool: &Pool<DB>,
        deadline: Deadline,
    ) -> Result<Self, StoreError> {
        // From here on a drop closes the connection, BEGIN on its way or not.
        let mut loan = Loan::acquire(pool, deadline).await?;
        loan.opens();
        let begin = Some(DB::begin(isolation).into_sql_str());
        let begin = DB::TransactionManager::begin(&mut loan, begin);
        if let Err(error) = deadline.run(Phase::InTransaction, begin).await {
            let anew = error.kind() == StoreErrorKind::Misused;
            let anew = anew && {
                let begin = DB::begin_anew(&mut loan);
                deadline.run(Phase::InTransaction, begin).await?
            };
            if !anew {
                return Err(error);
            }
        }
        Ok(Self { loan, turn: None })
    }

    /// The same, that gives back `turn` with its connection.
    #[cfg(feature = "sqlite")]
    pub(crate) fn in_turn(mut self, turn: OwnedSemaphorePermit) -> Self {
        self.turn = Some(turn);
        self
    }

    /// When the whole transaction must be over.
    #[must_use]
    pub const fn deadline(&self) -> Deadline {
        self.loan.deadline()
    }

    /// Commits.
    ///
    /// Dropping the future closes the connection; whether it was committed is unknown then.
    ///
    /// # Errors
    ///
    /// [`StoreError`], of the class unknown when the connection went or the deadline struck: about
    /// half of such commits have been done. The connection is closed.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let deadline = self.deadline();
        let commit = DB::TransactionManager::commit(&mut self.loan);
        deadline.run(Phase::Commit, commit).await?;
        self.give_back();
        Ok(())
    }

    /// Takes all back, and returns the connection to the pool.
    ///
    /// Dropping the future closes the connection; nothing was done in any case.
    ///
    /// # Errors
    ///
    /// [`StoreError`], of the class not done. The connection is closed.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        let deadline = self.deadline();
        let rollback = DB::TransactionManager::rollback(&mut self.loan);
        deadline.run(Phase::InTransaction, rollback).await?;
        self.give_back();
        Ok(())
    }

    /// Commits what went well, takes back what did not, and says what was said to it.
    ///
    /// Where one error in the middle ends the transaction, this spares the pool a new connection:
    /// after an answer of the server's the connection is as good as before. After a lost one or a
    /// struck deadline it is closed.
    ///
    /// # Errors
    ///
    /// The error it was given; the commit's, if there was none.
    pub async fn finish<T>(self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match result {
            Ok(value) => self.commit().await.map(|()| value),
            Err(error) => {
                let gone = matches!(
                    error.kind(),
                    StoreErrorKind::Lost | StoreErrorKind::Deadline
                ) || error.class() == Class::Unknown;
                if !gone {
                    // The first error is the one that counts. This one closed the connection.
                    let _ = self.rollback().await;
                }
                Err(error)
            }
        }
    }

    fn give_back(self) {
        self.loan.give_back();
        drop(self.turn);
    }
}

impl<DB: SqlDatabase> Deref for Guarded<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.loan
    }
}

impl<DB: SqlDatabase> DerefMut for Guarded<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.loan
    }
}

impl<DB: SqlDatabase> fmt::Debug for Guarded<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("dialect", &DB::DIALECT)
            .finish_non_exhaustive()
    }
}
