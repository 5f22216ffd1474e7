//! Taking orders: each once, however often it is asked for.

use std::time::Duration;

use buttress_idempotency::Refusal;
use buttress_saga::SagaError;
use tokio::time::sleep;

use super::Settlement;
use crate::{
    order::{NewOrder, Order},
    repository::{Acceptance, Database, OrderKey, Render, StoreError},
};

/// For how long, and how often, a repeated order waits for the first one, which is a transaction
/// that is about to be committed. It holds no connection while it waits.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

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

    /// Places the order, once for each key.
    pub(crate) async fn place(
        &self,
        order: &NewOrder,
        key: &OrderKey,
        render: Render,
    ) -> Result<Acceptance, StoreError> {
        let ([mut pause, longest], mut waited) = (PAUSES, Duration::ZERO);
        let sagas = self.settlement.orders();
        loop {
            let acceptance = self.database.accept(order, key, render, sagas).await?;
            match acceptance {
                Acceptance::Refused(Refusal::InFlight { .. }) if waited < PATIENCE => {}
                _ => return Ok(acceptance),
            }
            sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(longest);
        }
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
