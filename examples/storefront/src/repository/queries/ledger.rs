//! What the payment service writes: one row a key, whichever came first, charge or cancellation.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    super::super::{KeyState, Ledger, LedgerEntry, Result},
    Connection, Phase, Row, Store, key_state, returned, sql,
};

#[async_trait]
impl Ledger for Store {
    async fn charge(&self, key: &str, order_id: &str, amount: i64) -> Result<KeyState> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let charged = charge_in(&mut tx, key, order_id, amount);
        let charged = deadline.run(Phase::InTransaction, charged).await;
        tx.finish(charged).await
    }

    async fn cancel_charge(&self, key: &str) -> Result<()> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let cancelled = deadline
            .run(Phase::InTransaction, cancel_in(&mut tx, key))
            .await;
        tx.finish(cancelled).await
    }

    async fn ledger(&self, after: i64, limit: i64) -> Result<Vec<LedgerEntry>> {
        let mut loan = self.borrow().await?;
        let charges = loan
            .deadline()
            .run(Phase::Read, charges(&mut loan, after, limit))
            .await;
        returned(loan, charges)
    }
}

async fn charge_in(
    tx: &mut Connection,
    key: &str,
    order_id: &str,
    amount: i64,
) -> sqlx::Result<KeyState> {
    sqlx::query(sql::CHARGE)
        .bind(key)
        .bind(order_id)
        .bind(amount)
        .execute(&mut *tx)
        .await?;
    key_state(tx, sql::CHARGE_STATE, key).await
}

async fn cancel_in(tx: &mut Connection, key: &str) -> sqlx::Result<()> {
    // One statement for both cases, so that a charge on its way cannot slip in between.
    let cancel = sqlx::query(sql::CANCEL_CHARGE);
    cancel.bind(key).execute(tx).await?;
    Ok(())
}

async fn charges(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<LedgerEntry>> {
    let charges = sqlx::query(sql::CHARGES);
    let charges = charges
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    let read = |row: &Row| -> sqlx::Result<LedgerEntry> {
        Ok(LedgerEntry {
            seq: row.try_get("seq")?,
            order_id: row.try_get("order_id")?,
            amount: row.try_get("amount")?,
            refunded: row.try_get("refunded")?,
        })
    };
    charges.iter().map(read).collect()
}
