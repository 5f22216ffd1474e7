//! The tables, on SQLite or PostgreSQL: how they are reached, and a transaction on either.
//!
//! All statements are in the SQL that both share. What differs is here: how to connect, and how to
//! shut others out.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use buttress_outbox::{Inbox, Message, Outbox, OutboxError, OutboxStore, Taken};
use buttress_store::{
    AfterCommit, Deadline, Dialect, Guarded, Migration, Migrations, Phase, StoreError, Tables,
    sqlite::{Writer, options},
};
use sqlx::{
    FromRow, PgPool, Postgres, Sqlite,
    postgres::{PgPoolOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};

const STEPS: &[Migration] = &[Migration::new(1, include_str!("../schema.sql"))];

/// How long a transaction may take, and the wait for its connection. A page of a rebuild is one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The database, with the outbox in it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    outbox: Outbox,
}

#[derive(Clone)]
enum Pool {
    Sqlite(Writer),
    Postgres(PgPool),
}

/// A value that is bound.
#[derive(Clone, Copy)]
pub(crate) enum Value<'v> {
    Text(&'v str),
    Number(i64),
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v String> for Value<'v> {
    fn from(text: &'v String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// A row of either database.
pub(crate) trait Found:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<R> Found for R where
    R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

/// Binds all values to a query, of whichever database.
macro_rules! bound {
    ($query:expr, $values:expr) => {
        $values.iter().fold($query, |query, value| match *value {
            Value::Text(text) => query.bind(text.to_owned()),
            Value::Number(number) => query.bind(number),
        })
    };
}

impl Database {
    /// Connects to `sqlite:…` or `postgres:…`, and makes the tables where they are not there yet.
    /// Any number of processes may do so at once.
    ///
    /// # Errors
    ///
    /// The URL cannot be read, or the tables cannot be made.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        // A URL's own error may hold it, and that a password.
        let unreadable = "the database URL cannot be read";
        let (tables, patience) = (Tables::default(), Deadline::SQL);
        let own = |dialect| Migrations::new("read_model", STEPS, &tables, dialect);
        let (pool, store) = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => {
                let file = url.parse::<SqliteConnectOptions>();
                let file = file.ok().context(unreadable)?;
                let pool = SqlitePoolOptions::new().acquire_timeout(patience);
                let pool = pool.connect_lazy_with(options(file.get_filename()));
                own(Dialect::Sqlite)?.migrate(&pool).await?;
                let writer = Writer::new(pool);
                (Pool::Sqlite(writer.clone()), OutboxStore::sqlite(writer)?)
            }
            Some("postgres" | "postgresql") => {
                let pool = PgPoolOptions::new().acquire_timeout(patience);
                let pool = pool.connect_lazy(url).ok().context(unreadable)?;
                own(Dialect::Postgres)?.migrate(&pool).await?;
                (Pool::Postgres(pool.clone()), OutboxStore::postgres(pool)?)
            }
            _ => anyhow::bail!("the database URL must begin with sqlite: or postgres:"),
        };
        store.migrate().await?;
        let outbox = Outbox::new(store);
        Ok(Self { pool, outbox })
    }

    /// The outbox in it.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        let deadline = Deadline::after(PATIENCE);
        Ok(match &self.pool {
            Pool::Sqlite(writer) => Tx::Sqlite(writer.begin(deadline).await?),
            Pool::Postgres(pool) => Tx::Postgres(Guarded::begin(pool, deadline).await?),
        })
    }

    /// A read by itself: it waits for no writer.
    pub(crate) async fn read<R: Found>(&self, sql: &'static str) -> Result<Vec<R>, StoreError> {
        let deadline = Deadline::after(Deadline::SQL);
        match &self.pool {
            Pool::Sqlite(writer) => {
                let rows = sqlx::query_as(sql).fetch_all(writer.pool());
                deadline.run(Phase::Read, rows).await
            }
            Pool::Postgres(pool) => {
                let rows = sqlx::query_as(sql).fetch_all(pool);
                deadline.run(Phase::Read, rows).await
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// A transaction. Dropped, it is rolled back.
pub(crate) enum Tx {
    Sqlite(Guarded<Sqlite>),
    Postgres(Guarded<Postgres>),
}

impl Tx {
    pub(crate) async fn run(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, StoreError> {
        let work = Phase::InTransaction;
        match self {
            Self::Sqlite(tx) => {
                let deadline = tx.deadline();
                let done = bound!(sqlx::query(sql), values).execute(&mut **tx);
                Ok(deadline.run(work, done).await?.rows_affected())
            }
            Self::Postgres(tx) => {
                let deadline = tx.deadline();
                let done = bound!(sqlx::query(sql), values).execute(&mut **tx);
                Ok(deadline.run(work, done).await?.rows_affected())
            }
        }
    }

    pub(crate) async fn rows<R: Found>(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<R>, StoreError> {
        let work = Phase::InTransaction;
        match self {
            Self::Sqlite(tx) => {
                let deadline = tx.deadline();
                let rows = bound!(sqlx::query_as(sql), values).fetch_all(&mut **tx);
                deadline.run(work, rows).await
            }
            Self::Postgres(tx) => {
                let deadline = tx.deadline();
                let rows = bound!(sqlx::query_as(sql), values).fetch_all(&mut **tx);
                deadline.run(work, rows).await
            }
        }
    }

    /// Until the end of this transaction no generation begins, ends or is replayed into. Any number
    /// may hold that at once. On SQLite one transaction writes at a time, and this is it.
    pub(crate) async fn with_generations_fixed(&mut self) -> Result<(), StoreError> {
        if let Self::Postgres(_) = self {
            let lock = "LOCK TABLE view_control IN ROW SHARE MODE";
            self.run(lock, &[]).await?;
        }
        Ok(())
    }

    /// Until the end of this transaction nobody applies an event. Queries go on: they only read.
    /// It stands in a queue: those who apply events cannot keep it waiting by coming one after
    /// the other.
    pub(crate) async fn with_projectors_shut_out(&mut self) -> Result<(), StoreError> {
        if let Self::Postgres(_) = self {
            let lock = "LOCK TABLE view_control IN EXCLUSIVE MODE";
            self.run(lock, &[]).await?;
        }
        Ok(())
    }

    pub(crate) async fn append(
        &mut self,
        outbox: &Outbox,
        message: &Message,
    ) -> Result<AfterCommit, OutboxError> {
        match self {
            Self::Sqlite(tx) => outbox.append_in(&mut **tx, message).await,
            Self::Postgres(tx) => outbox.append_in(&mut **tx, message).await,
        }
    }

    pub(crate) async fn take(&mut self, inbox: &Inbox, id: &str) -> Result<Taken, OutboxError> {
        match self {
            Self::Sqlite(tx) => inbox.take_in(&mut **tx, id).await,
            Self::Postgres(tx) => inbox.take_in(&mut **tx, id).await,
        }
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }
}
