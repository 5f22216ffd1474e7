//! The tables: the service's own, and beside them the outbox and the sagas.

use anyhow::Context as _;
use buttress_outbox::{Message, Outbox, OutboxStore};
use buttress_saga::{Sagas, StartOptions, store::PostgresStore};
use buttress_store::{Deadline, Dialect, Guarded, Migration, Migrations, Tables};
use sqlx::{PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::fulfilment::{self, Order};

/// The topic of what is told of orders.
pub(crate) const TOPIC: &str = "orders";

const STEPS: &[Migration] = &[Migration::new(
    1,
    "CREATE TABLE worker_orders (id TEXT PRIMARY KEY, amount BIGINT NOT NULL)",
)];

pub(crate) struct Database {
    pool: PgPool,
    pub(crate) outbox: Outbox,
    pub(crate) sagas: Sagas,
}

impl Database {
    /// Connects, and makes the tables where they are not there yet. Any number of processes may do so
    /// at once.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(Deadline::SQL);
        // Its own error may hold the URL, and that a password.
        let pool = pool
            .connect_lazy(url)
            .map_err(|_| anyhow::anyhow!("WORKER_DATABASE_URL cannot be read"))?;
        let own = Migrations::new("worker", STEPS, &Tables::default(), Dialect::Postgres)?;
        own.migrate(&pool).await.context("the tables")?;
        let messages = OutboxStore::postgres(pool.clone())?;
        messages.migrate().await?;
        let journals = PostgresStore::new(pool.clone())?;
        journals.migrate().await?;
        Ok(Self {
            pool,
            outbox: Outbox::new(messages),
            sagas: Sagas::new(journals),
        })
    }

    /// Writes an order, that it was placed, and the beginning of its fulfilment, in one commit: what
    /// the service does that this worker stands beside.
    pub(crate) async fn place(&self, amount: i64) -> anyhow::Result<String> {
        let order = Order {
            id: Uuid::now_v7().simple().to_string(),
            amount,
        };
        let deadline = Deadline::after(Deadline::SQL);
        let mut tx = Guarded::begin(&self.pool, deadline).await?;
        sqlx::query("INSERT INTO worker_orders (id, amount) VALUES ($1, $2)")
            .bind(&order.id)
            .bind(amount)
            .execute(&mut *tx)
            .await?;
        let placed = Message::builder(TOPIC, "/worker", "order.placed")
            .key(&order.id)
            .subject(&order.id)
            .json(&order)
            .build()?;
        let told = self.outbox.append_in(&mut *tx, &placed).await?;
        let saga = fulfilment::shape()?;
        let options = StartOptions::new().key(&order.id);
        let (_, started) = self
            .sagas
            .start_in(&mut *tx, &saga, &order, options)
            .await?;
        tx.commit().await?;
        told.and(started).fire();
        Ok(order.id)
    }

    /// Whether it answers.
    pub(crate) async fn is_there(&self) -> bool {
        let ping = sqlx::query("SELECT 1").execute(&self.pool);
        let ping = tokio::time::timeout(std::time::Duration::from_secs(2), ping).await;
        matches!(ping, Ok(Ok(_)))
    }
}
