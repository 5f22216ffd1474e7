//! PostgreSQL, by URL. Times are the server's.

use std::time::Duration;

use buttress_idempotency::{
    Begin, Idempotency, Policy, TransactionGuard, store::PostgresStore as KeyStore,
};
use buttress_outbox::{Inbox, Outbox, OutboxStore};
use buttress_saga::{Sagas, store::PostgresStore as SagaStore};
use buttress_store::{Deadline, Gate, Guarded, Phase, StoreError};
use sqlx::{
    PgConnection, Postgres,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

use super::{
    Acceptance, OrderKey, Result,
    connect::{ConnectError, STARTED_WITHIN, SUBSCRIBER},
    migrate::migrator,
    of_key, order_keys,
};
use crate::order::NewOrder;

#[path = "queries/mod.rs"]
mod queries;
#[path = "sql/numbered.rs"]
mod sql;

pub(super) type Dialect = Postgres;
pub(super) type Connection = PgConnection;
/// The key of an order is claimed in its own transaction.
pub(super) type Claim = ();

/// After an outage the runner, and whoever reads an order's steps, looks for the database this often
/// at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Any number will do that no other program on the same database takes for its own lock.
const MIGRATION_LOCK: i64 = 0x73_746f_7265_6672;

#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: PgPool,
    order_keys: Idempotency,
    outbox: Outbox,
    inbox: Inbox,
}

impl Store {
    pub(super) async fn connect(url: &str) -> Result<Self, ConnectError> {
        let options: PgConnectOptions = url.parse().map_err(|_| ConnectError::BadUrl)?;
        let patience = Deadline::SQL.as_millis().to_string();
        let options = options.application_name("storefront").options([
            ("statement_timeout", patience.as_str()),
            // A host that stands still, or is cut off, in the middle of a transaction would hold
            // its locks for as long as the server believes in the connection.
            ("idle_in_transaction_session_timeout", patience.as_str()),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(Deadline::SQL);
        let pool = pool.connect_lazy_with(options);
        let keys = KeyStore::new(pool.clone())?;
        let outbox = OutboxStore::postgres(pool.clone())?;
        let store = Self {
            pool,
            order_keys: order_keys(keys.clone(), Policy::builder())?,
            inbox: Inbox::new(outbox.clone(), SUBSCRIBER)?,
            outbox: Outbox::new(outbox),
        };
        let mut tx = Guarded::begin(&store.pool, Deadline::after(STARTED_WITHIN)).await?;
        // Given back by the commit, so that no failure can leave it held on a pooled connection.
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK);
        lock.execute(&mut *tx)
            .await
            .map_err(StoreError::in_transaction)?;
        let schema = include_str!("../../migrations/postgres/0001_shop.sql");
        migrator(schema).run(&mut *tx).await?;
        tx.commit().await?;
        keys.migrate().await?;
        store.outbox.store().migrate().await?;
        Ok(store)
    }

    /// The sagas in the same database, by the same connections.
    pub(super) async fn sagas(&self) -> Result<Sagas, ConnectError> {
        let gate = Gate::sql().with_longest_pause(LONGEST_PAUSE)?;
        let store = SagaStore::new(self.pool.clone())?.with_gate(gate);
        store.migrate().await?;
        Ok(Sagas::new(store))
    }

    const fn reader(&self) -> &PgPool {
        &self.pool
    }

    async fn begin_write(&self) -> Result<Guarded<Postgres>> {
        Guarded::begin(&self.pool, Deadline::after(Deadline::SQL)).await
    }

    /// Nothing yet: the key is claimed with the order.
    #[expect(clippy::unused_async, reason = "MySQL is asked here")]
    async fn claim(&self, _: &NewOrder, _: &OrderKey) -> Result<Result<Claim, Acceptance>> {
        Ok(Ok(()))
    }

    async fn claimed_in(
        &self,
        tx: &mut Connection,
        key: &OrderKey,
        (): Claim,
    ) -> Result<Begin<TransactionGuard>> {
        let begun = self.order_keys.begin_in(tx, &key.key, &key.fingerprint);
        begun.await.map_err(of_key)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// The time in microseconds since 1970, by the server's clock: hosts disagree.
async fn now(connection: &mut Connection) -> sqlx::Result<i64> {
    let now =
        sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    now.fetch_one(connection).await
}
