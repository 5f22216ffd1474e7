//! MySQL and MariaDB, by URL. Times are the server's.
//!
//! There is no lock here that a waiting duplicate could try without holding a connection, so the key
//! of an order is claimed in a commit of its own. Its completion is in the order's transaction, and
//! fenced: who lost the claim commits nothing.

use std::time::Duration;

use buttress_idempotency::{
    Abandoned, Begin, Guard, Idempotency, Policy, store::MySqlStore as KeyStore,
};
use buttress_outbox::{Inbox, Outbox, OutboxStore};
use buttress_saga::{Sagas, store::MySqlStore as SagaStore};
use buttress_store::{
    Deadline, Dialect as Kind, Gate, Guarded, Isolation, LeaseTerms, Loan, Migration, Migrations,
    Phase, Tables,
};
use sqlx::{
    Executor as _, MySql, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions},
};

use super::{
    Acceptance, OrderKey, Result,
    connect::{ConnectError, STARTED_WITHIN, SUBSCRIBER},
    of_key, order_keys,
};
use crate::order::NewOrder;

#[path = "queries/mod.rs"]
mod queries;
#[path = "sql/mysql.rs"]
mod sql;

pub(super) type Dialect = MySql;
pub(super) type Connection = MySqlConnection;
/// An order's key, claimed before the transaction begins.
pub(super) type Claim = Guard;

/// After an outage the runner, and whoever reads an order's steps, looks for the database this often
/// at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// A key that a dead process claimed is free again after this long.
const LEASE: Duration = Duration::from_secs(4);
/// How long a statement waits for a lock, in seconds.
const LOCKS: &str = "SET SESSION innodb_lock_wait_timeout = 5";
/// MariaDB ends a session that stands still in the middle of a transaction, as one of a host that is cut
/// off does.
const STANDSTILL: &str = "SET SESSION idle_transaction_timeout = 5";
/// MySQL cannot tell it from one that waits for work, so it ends them both.
const SILENCE: &str = "SET SESSION wait_timeout = 8";
/// A connection that waits for work is given up before that.
const IDLE: Duration = Duration::from_secs(5);

const STEPS: &[Migration] = &[Migration::new(
    1,
    include_str!("../../migrations/mysql/0001_shop.sql"),
)];

#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: MySqlPool,
    order_keys: Idempotency,
    outbox: Outbox,
    inbox: Inbox,
}

impl Store {
    pub(super) async fn connect(url: &str) -> Result<Self, ConnectError> {
        let options: MySqlConnectOptions = url.parse().map_err(|_| ConnectError::BadUrl)?;
        let pool = MySqlPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(Deadline::SQL)
            .idle_timeout(IDLE)
            .after_connect(|connection, _| Box::pin(prepare(connection)));
        let pool = pool.connect_lazy_with(options);
        let keys = KeyStore::new(pool.clone())?;
        let policy = Policy::builder()
            .lease(LeaseTerms::new(LEASE)?)
            // An order is nothing until it is committed.
            .abandoned(Abandoned::Release);
        let outbox = OutboxStore::mysql(pool.clone())?;
        let store = Self {
            pool,
            order_keys: order_keys(keys.clone(), policy)?,
            inbox: Inbox::new(outbox.clone(), SUBSCRIBER)?,
            outbox: Outbox::new(outbox),
        };
        let shop = Migrations::new("storefront", STEPS, &Tables::default(), Kind::MySql)?;
        let deadline = Deadline::after(STARTED_WITHIN);
        shop.migrate_by(&store.pool, deadline).await?;
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

    const fn reader(&self) -> &MySqlPool {
        &self.pool
    }

    async fn begin_write(&self) -> Result<Guarded<MySql>> {
        let deadline = Deadline::after(Deadline::SQL);
        Guarded::begin_at(Isolation::ReadCommitted, &self.pool, deadline).await
    }

    /// Claims the key, or says what is to be answered. What is wrong with the order is said before
    /// what is wrong with its key.
    async fn claim(&self, order: &NewOrder, key: &OrderKey) -> Result<Result<Claim, Acceptance>> {
        let mut loan = Loan::acquire(&self.pool, Deadline::after(Deadline::SQL)).await?;
        let deadline = loan.deadline();
        let priced = queries::orders::priced(&mut loan, order);
        let priced = deadline.run(Phase::Read, priced).await?;
        loan.give_back();
        if let Err(unknown) = priced {
            return Ok(Err(Acceptance::UnknownProducts(unknown)));
        }
        let begun = self.order_keys.begin(&key.key, &key.fingerprint).await;
        Ok(match begun.map_err(of_key)? {
            Begin::New(claim) => Ok(claim),
            other => Err(queries::answered(other)),
        })
    }

    #[expect(clippy::unused_async, reason = "others ask their database here")]
    async fn claimed_in(
        &self,
        _: &mut Connection,
        _: &OrderKey,
        claim: Claim,
    ) -> Result<Begin<Guard>> {
        Ok(Begin::New(claim))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

async fn prepare(connection: &mut Connection) -> sqlx::Result<()> {
    connection.execute(LOCKS).await?;
    if connection.execute(STANDSTILL).await.is_err() {
        connection.execute(SILENCE).await?;
    }
    Ok(())
}

/// The time in microseconds since 1970, by the server's clock: hosts disagree.
async fn now(connection: &mut Connection) -> sqlx::Result<i64> {
    let now = sqlx::query_scalar(
        "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))",
    );
    now.fetch_one(connection).await
}
