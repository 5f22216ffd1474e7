//! Whether every connection of a pool keeps its promise: what is written through it is written.

use std::fmt;

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection, Database, Executor, IntoArguments, Pool,
    pool::PoolConnection,
};

/// What the probe writes into. It is made in the pool's database, empty between two probes, and
/// left there.
const TABLE: &str = "buttress_testkit_probe";

/// A pool that would lose somebody's write, or would not even take one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unclean {
    /// So many of its connections said that a row was written, and nobody else could see it: they
    /// were in a transaction. They are closed now.
    #[error(
        "{lost} of {connections} connections are in a transaction: what they wrote is not seen by others"
    )]
    LostWrite {
        /// The connections that did.
        lost: usize,
        /// All that the pool has.
        connections: usize,
    },
    /// A connection refused a write: its transaction has failed, or another one holds a lock.
    #[error("a connection refused a write")]
    Refused(#[source] sqlx::Error),
    /// Not all connections could be had: one was not given back, or the server is gone.
    #[error("connection {number} of {of} is not to be had")]
    NotReturned {
        /// The first that was missing.
        number: usize,
        /// How many the pool may have.
        of: usize,
        /// What the pool said.
        source: sqlx::Error,
    },
    /// The probe itself failed, on a connection of its own.
    #[error("the probe could not be made")]
    Probe(#[source] sqlx::Error),
}

/// Borrows all the connections that `pool` may have, writes a row through each, and looks with a
/// connection of its own whether it is there. Returns how many connections were so proven.
///
/// It proves that no connection that the pool now has or opens is in a transaction, and that all
/// were given back. It says nothing about other things that a session can be left with: settings,
/// temporary tables, advisory locks.
///
/// The pool must be idle, or become so within its `acquire_timeout`; one of many connections is
/// filled up to its maximum. An in-memory SQLite has as many databases as connections, and is not
/// to be probed.
///
/// Dropping the future gives the connections back as they are, and may leave rows in the table.
///
/// # Errors
///
/// [`Unclean`].
pub async fn probe<D: Probed>(pool: &Pool<D>) -> Result<usize, Unclean>
where
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    D::Arguments: IntoArguments<D>,
{
    let mut witness = pool
        .connect_options()
        .connect()
        .await
        .map_err(Unclean::Probe)?;
    let create = format!("CREATE TABLE IF NOT EXISTS {TABLE} (token BIGINT NOT NULL)");
    run::<D>(&mut witness, create)
        .await
        .map_err(Unclean::Probe)?;
    let connections = borrow_all(pool).await?;
    let count = connections.len();
    let outcome = write_through(connections, &mut witness).await;
    let clear = run::<D>(&mut witness, format!("DELETE FROM {TABLE}")).await;
    let lost = outcome?;
    clear.map_err(Unclean::Probe)?;
    witness.close().await.map_err(Unclean::Probe)?;
    match lost {
        0 => Ok(count),
        lost => Err(Unclean::LostWrite {
            lost,
            connections: count,
        }),
    }
}

/// A database whose pools can be probed.
pub trait Probed: Database + fmt::Debug {}

#[cfg(feature = "postgres")]
impl Probed for sqlx::Postgres {}

#[cfg(feature = "mysql")]
impl Probed for sqlx::MySql {}

#[cfg(feature = "sqlite")]
impl Probed for sqlx::Sqlite {}

/// All at once: one that is just on its way back is among them, whichever it is.
async fn borrow_all<D: Database>(pool: &Pool<D>) -> Result<Vec<PoolConnection<D>>, Unclean> {
    let of = pool.options().get_max_connections() as usize;
    let mut connections = Vec::new();
    for number in 1..=of {
        let connection = pool.acquire().await;
        connections.push(connection.map_err(|source| Unclean::NotReturned {
            number,
            of,
            source,
        })?);
    }
    Ok(connections)
}

/// How many connections said that they had written what the witness does not see.
async fn write_through<D: Database>(
    connections: Vec<PoolConnection<D>>,
    witness: &mut D::Connection,
) -> Result<usize, Unclean>
where
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    D::Arguments: IntoArguments<D>,
{
    let mut lost = 0;
    let mut refused = None;
    for mut connection in connections {
        let token: i32 = rand::random();
        let insert = format!("INSERT INTO {TABLE} (token) VALUES ({token})");
        if let Err(error) = run::<D>(&mut connection, insert).await {
            connection.close_on_drop();
            refused.get_or_insert(error);
            continue;
        }
        let select = format!("SELECT token FROM {TABLE} WHERE token = {token}");
        let seen = witness.fetch_all(AssertSqlSafe(select)).await;
        if seen.map_err(Unclean::Probe)?.is_empty() {
            connection.close_on_drop();
            lost += 1;
        }
    }
    match refused {
        Some(error) => Err(Unclean::Refused(error)),
        None => Ok(lost),
    }
}

async fn run<D: Database>(connection: &mut D::Connection, sql: String) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
{
    connection.execute(AssertSqlSafe(sql)).await.map(drop)
}
