//! The only place that knows SQL.
//!
//! Services see the traits below. Each query is written once, under `queries/`, and compiled once for
//! each database; its statement is in `sql/`, in the SQL that SQLite and PostgreSQL share, and in
//! MySQL's. What differs beside that (how to connect, how to begin a write, when a key is claimed,
//! what time it is) stands in `sqlite.rs`, `postgres.rs` and `mysql.rs`.

mod connect;
mod migrate;
mod mysql;
mod postgres;
mod sqlite;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_idempotency::{
    CompleteError, Fingerprint, Idempotency, IdempotencyError, MetricsObserver, PolicyBuilder,
    PolicyError, Refusal, ScopedKey, TraceEvents, http::StoredResponse, store,
};
use buttress_outbox::{Outbox, OutboxError};
use buttress_saga::{Context, Saga, SagaError, Sagas, StartOptions, StepError, UndoContext};
pub(crate) use buttress_store::StoreError;
use buttress_store::{AfterCommit, Phase, SqlConnection, StoreErrorKind};
use bytes::Bytes;

pub(crate) use self::connect::{connect, has_orders};
use crate::{
    event::{AppliedEvent, ToldEvent},
    order::{CancelReason, NewOrder, Order, Placed},
    product::{Product, ProductChange},
};

/// What every query returns.
pub(crate) type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A database that holds the whole shop.
pub(crate) trait Repository:
    Products + Orders + Settlements + Ledger + Shipments + Events + Health
{
}

impl<T: Products + Orders + Settlements + Ledger + Shipments + Events + Health> Repository for T {}

/// A repository as it is passed around.
pub(crate) type Database = Arc<dyn Repository>;

#[async_trait]
pub(crate) trait Health: Send + Sync {
    /// Asks the database for an answer, any answer.
    async fn ping(&self) -> Result<()>;

    /// Closes all connections, waiting for those in use.
    async fn close(&self);
}

#[async_trait]
pub(crate) trait Products: Send + Sync {
    /// Up to `limit` products whose ids come after `after`, by id.
    async fn products(&self, after: &str, limit: i64) -> Result<Vec<Product>>;

    async fn product(&self, id: &str) -> Result<Option<Product>>;

    /// Changes the product if it still has `version`; `None` when it has not (or is not there).
    async fn change_product(
        &self,
        id: &str,
        version: i64,
        change: ProductChange,
    ) -> Result<Option<Product>>;
}

/// Whose key, and for which order.
#[derive(Clone, Debug)]
pub(crate) struct OrderKey {
    pub(crate) key: ScopedKey,
    /// Of the body, compared as JSON.
    pub(crate) fingerprint: Fingerprint,
}

/// Answers an accepted order: what every replay gets again.
pub(crate) type Render = fn(&Order) -> StoredResponse;

/// What became of a `POST /orders`.
#[derive(Debug)]
pub(crate) enum Acceptance {
    /// It is a new order, and this is its answer.
    Accepted(StoredResponse),
    /// The key was used for the same body before, and this was the answer.
    Replayed(Bytes),
    /// The key was used for another body, or its first order is just being placed.
    Refused(Refusal),
    /// These items (by their position) name products that there are not.
    UnknownProducts(Vec<usize>),
}

/// For how long an accepted order is remembered under its key.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of orders, on this database.
fn order_keys(
    store: impl store::Store + 'static,
    policy: PolicyBuilder,
) -> Result<Idempotency, PolicyError> {
    let policy = policy.retention(REMEMBERED_FOR).build()?;
    let keys = Idempotency::builder(store).name("orders").policy(policy);
    let keys = keys.observer(TraceEvents).observer(MetricsObserver::new());
    Ok(keys.build())
}

/// What a key is refused with inside a transaction: the store's own error, or a mistake of ours.
fn of_key(error: IdempotencyError) -> StoreError {
    match error {
        IdempotencyError::Store(error) => error,
        _ => StoreError::new(StoreErrorKind::Misused, Phase::InTransaction),
    }
}

/// The same when it is completed.
fn of_completion(error: CompleteError) -> StoreError {
    match error {
        CompleteError::Store(error) => error,
        _ => StoreError::new(StoreErrorKind::Misused, Phase::InTransaction),
    }
}

/// The same when something is told, or taken.
fn of_outbox(error: OutboxError) -> StoreError {
    match error {
        OutboxError::Store(error) => error,
        _ => StoreError::new(StoreErrorKind::Misused, Phase::InTransaction),
    }
}

#[async_trait]
pub(crate) trait Orders: Send + Sync {
    /// What is remembered under the keys of orders.
    fn order_keys(&self) -> &Idempotency;

    /// Places an order, says so, starts its saga and remembers its answer under its key, in one
    /// commit.
    async fn accept(
        &self,
        order: &NewOrder,
        key: &OrderKey,
        render: Render,
        sagas: &OrderSagas,
    ) -> Result<Acceptance>;

    /// The order without its steps.
    async fn order(&self, id: &str) -> Result<Option<Order>>;

    /// Up to `limit` orders without their steps, older than the order `before`, newest first.
    async fn orders(&self, before: Option<&str>, limit: i64) -> Result<Vec<Order>>;
}

/// The sagas of the orders, and by which steps they go.
#[derive(Clone, Debug)]
pub(crate) struct OrderSagas {
    pub(crate) sagas: Sagas,
    pub(crate) saga: Saga<Placed>,
}

impl OrderSagas {
    /// Starts the saga of an order that is placed in the same transaction. The order's id is the
    /// saga's.
    async fn start_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        placed: &Placed,
    ) -> Result<AfterCommit> {
        let misused = || StoreError::new(StoreErrorKind::Misused, Phase::InTransaction);
        let id = placed.order_id.parse().map_err(|_| misused())?;
        let options = StartOptions::new().id(id);
        let started = self.sagas.start_in(connection, &self.saga, placed, options);
        match started.await {
            Ok((_, wake)) => Ok(wake),
            Err(SagaError::Store(error)) => Err(error),
            Err(_) => Err(misused()),
        }
    }
}

/// The steps of an order that are rows here. Each commits its end in the saga's journal with them.
#[async_trait]
pub(crate) trait Settlements: Send + Sync {
    /// Sets the stock aside, or refuses for want of it.
    async fn reserve(&self, step: &Context<'_, Placed>) -> Result<(), StepError>;

    /// Cancels the order, and puts the stock back that was `reserved`.
    async fn cancel(
        &self,
        undo: &UndoContext<'_, Placed>,
        reserved: bool,
        reason: CancelReason,
    ) -> Result<(), StepError>;

    /// Confirms the order.
    async fn confirm(&self, step: &Context<'_, Placed>) -> Result<(), StepError>;
}

/// What the payment service did for an order.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct LedgerEntry {
    pub(crate) seq: i64,
    pub(crate) order_id: String,
    pub(crate) amount: i64,
    pub(crate) refunded: i64,
}

/// What stands under a key at a service behind the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    Done,
    /// It was cancelled, perhaps before it ever came.
    Cancelled,
}

#[async_trait]
pub(crate) trait Ledger: Send + Sync {
    /// Charges once for the key, unless the key was cancelled; says which.
    async fn charge(&self, key: &str, order_id: &str, amount: i64) -> Result<KeyState>;

    /// Refunds what was charged under the key, or leaves a mark that refuses it later.
    async fn cancel_charge(&self, key: &str) -> Result<()>;

    /// Charges after `after`, at most `limit`.
    async fn ledger(&self, after: i64, limit: i64) -> Result<Vec<LedgerEntry>>;
}

#[async_trait]
pub(crate) trait Shipments: Send + Sync {
    /// Books one shipment for the key, unless the key was cancelled; says which.
    async fn ship(&self, key: &str, order_id: &str) -> Result<KeyState>;

    /// Cancels the shipment under the key, or leaves a mark that refuses it later.
    async fn cancel_shipment(&self, key: &str) -> Result<()>;
}

#[async_trait]
pub(crate) trait Events: Send + Sync {
    /// What the shop tells of its orders, until it is delivered.
    fn outbox(&self) -> &Outbox;

    /// Applies an event at the subscriber, once by its id.
    async fn apply(&self, event: &ToldEvent) -> Result<()>;

    /// What the subscriber has applied after `after`, at most `limit`, in its order.
    async fn events(&self, after: i64, limit: i64) -> Result<Vec<AppliedEvent>>;
}
