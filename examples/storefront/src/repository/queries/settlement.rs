//! The steps of an order that are rows of ours: each in one transaction with its end in the saga's
//! journal, so each is there exactly once.

use std::error::Error;

use async_trait::async_trait;
use buttress_saga::{Context, StepError, UndoContext};
use sqlx::Row as _;

use super::{super::super::Settlements, Connection, Store, sql};
use crate::{
    event::OrderEvent,
    order::{CancelReason, Placed},
};

#[async_trait]
impl Settlements for Store {
    async fn reserve(&self, step: &Context<'_, Placed>) -> Result<(), StepError> {
        let mut tx = self.begin_write().await.map_err(later)?;
        if !reserve_in(&mut tx, &step.input().order_id)
            .await
            .map_err(later)?
        {
            tx.rollback().await.map_err(later)?;
            return Err(StepError::refused(CancelReason::OutOfStock.into()));
        }
        step.complete_in(&mut *tx, &()).await?;
        tx.commit().await.map_err(later)
    }

    async fn cancel(
        &self,
        undo: &UndoContext<'_, Placed>,
        reserved: bool,
        reason: CancelReason,
    ) -> Result<(), StepError> {
        let order = &undo.input().order_id;
        let mut tx = self.begin_write().await.map_err(later)?;
        if reserved {
            put_back(&mut tx, order).await.map_err(later)?;
        }
        end(&mut tx, order, "cancelled", Some(reason))
            .await
            .map_err(later)?;
        let event = OrderEvent::Cancelled { reason };
        let told = self.tell_in(&mut tx, order, event).await.map_err(later)?;
        undo.complete_in(&mut *tx).await?;
        tx.commit().await.map_err(later)?;
        told.fire();
        Ok(())
    }

    async fn confirm(&self, step: &Context<'_, Placed>) -> Result<(), StepError> {
        let mut tx = self.begin_write().await.map_err(later)?;
        let order = &step.input().order_id;
        end(&mut tx, order, "confirmed", None)
            .await
            .map_err(later)?;
        let event = OrderEvent::Confirmed {};
        let told = self.tell_in(&mut tx, order, event).await.map_err(later)?;
        step.complete_in(&mut *tx, &()).await?;
        tx.commit().await.map_err(later)?;
        told.fire();
        Ok(())
    }
}

/// No error of the database's ends an order. What was committed all the same stands in the journal.
fn later(error: impl Error + Send + Sync + 'static) -> StepError {
    StepError::not_done("DATABASE").because(error)
}

/// Sets the stock aside for all items; `false` when one of them is short, and then roll back.
async fn reserve_in(tx: &mut Connection, order: &str) -> sqlx::Result<bool> {
    for (product, quantity) in wanted(tx, order).await? {
        let enough = sqlx::query(sql::RESERVE);
        let enough = enough.bind(quantity).bind(product).bind(quantity);
        if enough.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts the stock back that was set aside.
async fn put_back(tx: &mut Connection, order: &str) -> sqlx::Result<()> {
    for (product, quantity) in wanted(tx, order).await? {
        sqlx::query(sql::PUT_BACK)
            .bind(quantity)
            .bind(product)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// How much of each product, in the one order in which everybody locks their rows.
async fn wanted(tx: &mut Connection, order: &str) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query(sql::WANTED);
    let rows = rows.bind(order).fetch_all(tx).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("product_id")?, row.try_get("quantity")?)))
        .collect()
}

/// Gives the order its last status.
async fn end(
    tx: &mut Connection,
    order: &str,
    status: &'static str,
    reason: Option<CancelReason>,
) -> sqlx::Result<()> {
    sqlx::query(sql::END_ORDER)
        .bind(status)
        .bind(reason.map(<&str>::from))
        .bind(order)
        .execute(tx)
        .await?;
    Ok(())
}
