//! A pool whose connections carry nothing from one borrower to the next.

use crate::sealed::Sealed;

/// Hardens the options of a pool of yours: `PgPoolOptions` and `MySqlPoolOptions`. Sealed.
///
/// sqlx returns a connection with an open transaction when a `begin()` is dropped on its way (a
/// timeout, a `select!`, a client that hangs up), and the next borrower's acknowledged write is
/// lost. A hardened pool ends whatever is open when a connection comes back, and closes one on which
/// the server does not answer within a second. It costs a round trip a return, which nobody waits
/// for. [`Guarded`](crate::Guarded) needs no such pool.
///
/// It takes the options' `after_release`: do not set another. SQLite needs none of it.
///
/// ```
/// # #[cfg(feature = "postgres")] {
/// use buttress_store::Harden;
///
/// let options = sqlx::postgres::PgPoolOptions::new().max_connections(10).harden();
/// # }
/// ```
pub trait Harden: Sealed {
    /// The same options, hardened.
    #[must_use]
    fn harden(self) -> Self;
}

#[cfg(feature = "postgres")]
impl Harden for sqlx::postgres::PgPoolOptions {
    fn harden(self) -> Self {
        self.after_release(|connection, _| {
            Box::pin(async move {
                // A lone ROLLBACK would warn in the server's log and in ours at every return. With
                // BEGIN before it only a transaction that was left open warns; one that had failed
                // already makes BEGIN fail, and sqlx then closes the connection.
                answered(sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection)).await
            })
        })
    }
}

#[cfg(feature = "mysql")]
impl Harden for sqlx::mysql::MySqlPoolOptions {
    fn harden(self) -> Self {
        self.after_release(|connection, _| {
            Box::pin(async move { answered(sqlx::raw_sql("ROLLBACK").execute(connection)).await })
        })
    }
}

/// Whether the server answered in time; a connection on which it did not is closed. Without this
/// the pool would miss its place until TCP gives up.
#[cfg(any(feature = "mysql", feature = "postgres"))]
async fn answered<T>(
    rollback: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(super::RETURN, rollback).await {
        Ok(result) => result.map(|_| true),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
