//! SQLite: the default, embedded. Many readers, one writer that tasks queue for.

use buttress_idempotency::{
    Begin, Idempotency, Policy, TransactionGuard, store::SqliteStore as KeyStore,
};
use buttress_outbox::{Inbox, Outbox, OutboxStore};
use buttress_saga::{Sagas, store::SqliteStore as SagaStore};
use buttress_store::{
    Deadline, Guarded, MigrateError, Phase, Tables,
    sqlite::{Writer, options},
};
use sqlx::{
    Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions},
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

pub(super) type Dialect = Sqlite;
pub(super) type Connection = SqliteConnection;
/// The key of an order is claimed in its own transaction.
pub(super) type Claim = ();

#[derive(Clone, Debug)]
pub(super) struct Store {
    read: SqlitePool,
    write: Writer,
    order_keys: Idempotency,
    outbox: Outbox,
    inbox: Inbox,
}

impl Store {
    pub(super) async fn connect(url: &str) -> Result<Self, ConnectError> {
        let wanted: SqliteConnectOptions = url.parse().map_err(|_| ConnectError::BadUrl)?;
        let options = options(wanted.get_filename());
        let pool = |connections| {
            let pool = SqlitePoolOptions::new().max_connections(connections);
            pool.acquire_timeout(Deadline::SQL)
                .connect_lazy_with(options.clone())
        };
        let write = Writer::new(pool(1));
        let keys = KeyStore::new(write.clone())?;
        let outbox = OutboxStore::sqlite(write.clone())?;
        let store = Self {
            read: pool(8),
            write,
            order_keys: order_keys(keys.clone(), Policy::builder())?,
            inbox: Inbox::new(outbox.clone(), SUBSCRIBER)?,
            outbox: Outbox::new(outbox),
        };
        let mut tx = store.write.begin(Deadline::after(STARTED_WITHIN)).await?;
        let schema = include_str!("../../migrations/sqlite/0001_shop.sql");
        migrator(schema).run(&mut *tx).await?;
        tx.commit().await?;
        keys.migrate().await?;
        store.outbox.store().migrate().await?;
        Ok(store)
    }

    /// The sagas in the same file, whose writes take turns with ours.
    pub(super) async fn sagas(&self) -> Result<Sagas, MigrateError> {
        let store = SagaStore::with_tables(self.write.clone(), &Tables::default())?;
        store.migrate().await?;
        Ok(Sagas::new(store.with_reader(self.read.clone())))
    }

    const fn reader(&self) -> &SqlitePool {
        &self.read
    }

    async fn begin_write(&self) -> Result<Guarded<Sqlite>> {
        self.write.begin(Deadline::after(Deadline::SQL)).await
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
        self.read.close().await;
        self.write.pool().close().await;
    }
}

/// The time in microseconds since 1970. SQLite is embedded, so the host's clock is its clock.
async fn now(_: &mut Connection) -> sqlx::Result<i64> {
    Ok(jiff::Timestamp::now().as_microsecond())
}
