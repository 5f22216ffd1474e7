//! Taking orders.
//!
//! This is where `buttress-idempotency` will be plugged in: until then a unique key in the order's
//! own transaction does, which is enough for one table in one database.

use std::time::Duration;

use buttress_saga::SagaError;

use super::Settlement;
use crate::{
    order::{NewOrder, Order},
    repository::{Acceptance, Database, OrderKey, Render, StoreError},
};

/// For how long an accepted order is remembered under its key.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone)]
pub(crate) struct Ordering {
    database: Database,
    settlement: Settlement,
}

impl Ordering {
    pub(crate) const fn new(database: Database, settlement: Settlement) -> Self {
        Self {
            database,
            settlement,
        }
    }

    /// Places the order, once for each client and key.
    pub(crate) async fn place(
        &self,
        order: NewOrder,
        client: Vec<u8>,
        key: String,
        fingerprint: Vec<u8>,
        render: Render,
    ) -> Result<Acceptance, StoreError> {
        let key = OrderKey {
            client,
            key,
            fingerprint,
            remembered_for: REMEMBERED_FOR,
        };
        let sagas = self.settlement.orders();
        self.database.accept(order, key, render, sagas).await
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Option<Order>, SagaError> {
        let found = self.database.order(id).await?;
        Ok(self
            .settlement
            .show(found.into_iter().collect())
            .await?
            .pop())
    }

    /// Orders older than `before`, newest first.
    pub(crate) async fn page(
        &self,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Order>, SagaError> {
        let page = self.database.orders(before, limit).await?;
        self.settlement.show(page).await
    }
}
