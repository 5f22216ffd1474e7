//! PostgreSQL, by URL. Times are the server's.

use std::time::Duration;

use sqlx::{
    PgConnection, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

use super::{Result, StoreError, connect::ConnectError, migrate::migrator};

#[path = "queries/mod.rs"]
mod queries;

pub(super) type Dialect = Postgres;
pub(super) type Connection = PgConnection;

/// How long a query waits for a connection, a lock, and its own end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Any number will do that no other program on the same database takes for its own lock.
const MIGRATION_LOCK: i64 = 0x73_746f_7265_6672;

#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: PgPool,
}

impl Store {
    pub(super) async fn connect(url: &str) -> Result<Self, ConnectError> {
        let options: PgConnectOptions = url.parse().map_err(|_| ConnectError::BadUrl)?;
        let patience = PATIENCE.as_millis().to_string();
        let options = options.application_name("storefront").options([
            ("statement_timeout", patience.as_str()),
            // A host that stands still, or is cut off, in the middle of a transaction would hold
            // its locks for as long as the server believes in the connection.
            ("idle_in_transaction_session_timeout", patience.as_str()),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(PATIENCE)
            .connect_with(options)
            .await
            .map_err(StoreError::from)?;
        let store = Self { pool };
        let mut tx = store.begin_write().await?;
        // Given back by the commit, so that no failure can leave it held on a pooled connection.
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from)?;
        let schema = include_str!("../../migrations/postgres/0001_shop.sql");
        migrator(schema).run(&mut *tx).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(store)
    }

    fn reader(&self) -> &PgPool {
        &self.pool
    }

    fn writer(&self) -> &PgPool {
        &self.pool
    }

    async fn begin_write(&self) -> Result<Transaction<'static, Postgres>> {
        Ok(self.pool.begin().await?)
    }
}

/// The time in microseconds since 1970, by the server's clock: hosts disagree.
async fn now(connection: &mut Connection) -> Result<i64> {
    let now =
        sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    Ok(now.fetch_one(connection).await?)
}
