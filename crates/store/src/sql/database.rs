//! What differs between the databases in how a connection is begun with and given up.

use sqlx::pool::PoolConnection;
#[cfg(feature = "sqlite")]
use sqlx_core::transaction::TransactionManager as _;

use crate::{Dialect, SqlConnection, sealed::Sealed};

/// How much of others' work a transaction sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// What the session is set to: READ COMMITTED on PostgreSQL, REPEATABLE READ on MySQL, unless
    /// somebody changed it.
    #[default]
    Session,
    /// Each statement sees what was committed before it. Claims need this one: at MySQL's default
    /// a claim with SKIP LOCKED locks gaps, and blocks inserts of the business.
    ReadCommitted,
    /// All statements see what was committed before the first.
    RepeatableRead,
    /// As if one transaction ran after another; expect to be told to try again.
    Serializable,
}

/// A database of sqlx's on which stores stand: `sqlx::Postgres`, `sqlx::MySql`, `sqlx::Sqlite`.
/// Sealed.
pub trait SqlDatabase: Sealed + sqlx::Database<Connection: SqlConnection> {
    /// Its SQL.
    const DIALECT: Dialect;

    /// How a transaction begins, in one round trip.
    #[doc(hidden)]
    fn begin(isolation: Isolation) -> &'static str;

    /// Gives up a connection that may be in the middle of something: of a transaction, if `open`.
    #[doc(hidden)]
    fn abandon(connection: PoolConnection<Self>, open: bool);

    /// Returns a connection that is in order.
    #[doc(hidden)]
    fn give_back(connection: PoolConnection<Self>);

    /// Begins on a connection that sqlx believes to be in a transaction and the database does not.
    /// False: there are no such connections.
    #[doc(hidden)]
    fn begin_anew(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send {
        let _ = connection;
        std::future::ready(Ok(false))
    }
}

#[cfg(feature = "postgres")]
impl SqlDatabase for sqlx::Postgres {
    const DIALECT: Dialect = Dialect::Postgres;

    fn begin(isolation: Isolation) -> &'static str {
        match isolation {
            Isolation::Session => "BEGIN",
            Isolation::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Isolation::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Isolation::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        }
    }

    fn abandon(connection: PoolConnection<Self>, _: bool) {
        hang_up(connection);
    }

    fn give_back(connection: PoolConnection<Self>) {
        give_back_in_time(connection);
    }
}

#[cfg(feature = "mysql")]
impl SqlDatabase for sqlx::MySql {
    const DIALECT: Dialect = Dialect::MySql;

    fn begin(isolation: Isolation) -> &'static str {
        // SET TRANSACTION holds for the next transaction alone. Both go in one packet.
        match isolation {
            Isolation::Session => "BEGIN",
            Isolation::ReadCommitted => "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN",
            Isolation::RepeatableRead => "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; BEGIN",
            Isolation::Serializable => "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; BEGIN",
        }
    }

    fn abandon(connection: PoolConnection<Self>, _: bool) {
        hang_up(connection);
    }

    fn give_back(connection: PoolConnection<Self>) {
        give_back_in_time(connection);
    }
}

/// Closes the socket at once, without a farewell that a black hole would swallow for seconds, and
/// gives the pool its place back. The server takes back what was not committed when it notices.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn hang_up<DB: SqlDatabase>(connection: PoolConnection<DB>) {
    drop(connection.detach());
}

/// Returns a connection, or closes it when the server does not answer in time.
///
/// sqlx asks the server for a sign of life when a connection comes back, and waits for it without
/// end: in a black hole the pool would miss the connection's place until TCP gives up.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn give_back_in_time<DB: SqlDatabase>(mut connection: PoolConnection<DB>) {
    // Without a runtime there is nobody to wait, and sqlx does what it does.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let returned = connection.return_to_pool();
        runtime.spawn(tokio::time::timeout(super::RETURN, returned));
    }
}

#[cfg(feature = "sqlite")]
impl SqlDatabase for sqlx::Sqlite {
    const DIALECT: Dialect = Dialect::Sqlite;

    fn begin(_: Isolation) -> &'static str {
        // It has one level only. A transaction that takes the write lock later than at its start
        // can fail in the middle (SQLITE_BUSY_SNAPSHOT), and no waiting helps.
        "BEGIN IMMEDIATE"
    }

    /// There is no socket on which an answer could be outstanding: a thread of sqlx's runs what it
    /// is sent in order. So a rollback behind it is enough, and a database in memory, which would
    /// go with its last connection, stays.
    ///
    /// Exactly one rollback, wherever the transaction was: sqlx's thread counts on it. It takes a
    /// commit whose caller has gone for a reason to pass over the next one.
    fn abandon(mut connection: PoolConnection<Self>, open: bool) {
        if open {
            <sqlx::Sqlite as sqlx::Database>::TransactionManager::start_rollback(&mut connection);
        }
    }

    fn give_back(connection: PoolConnection<Self>) {
        drop(connection);
    }

    /// A full disk, an I/O error or a lack of memory makes SQLite take a transaction back by
    /// itself. sqlx' rollback behind it fails, so it goes on counting one, and no transaction
    /// could ever be begun on that connection again.
    async fn begin_anew(connection: &mut Self::Connection) -> Result<bool, sqlx::Error> {
        let begin = sqlx::raw_sql(Self::begin(Isolation::Session));
        begin.execute(connection).await.map(|_| true)
    }
}
