//! What the payment service writes: one row a key, whichever came first, charge or cancellation.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    super::super::{KeyState, Ledger, LedgerEntry, Result},
    Connection, Phase, Row, Store, key_state, returned,
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
    sqlx::query(
        "INSERT INTO charges (key, state, order_id, amount) VALUES ($1, 'done', $2, $3)
         ON CONFLICT (key) DO NOTHING",
    )
    .bind(key)
    .bind(order_id)
    .bind(amount)
    .execute(&mut *tx)
    .await?;
    key_state(tx, "SELECT state FROM charges WHERE key = $1", key).await
}

async fn cancel_in(tx: &mut Connection, key: &str) -> sqlx::Result<()> {
    // One statement for both cases, so that a charge on its way cannot slip in between.
    let cancel = sqlx::query(
        "INSERT INTO charges (key, state, order_id, amount) VALUES ($1, 'cancelled', '', 0)
         ON CONFLICT (key) DO UPDATE SET state = 'cancelled', refunded = charges.amount",
    );
    cancel.bind(key).execute(tx).await?;
    Ok(())
}

async fn charges(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<LedgerEntry>> {
    // A mark that refuses a charge has no order: nothing was charged.
    let charges = sqlx::query(
        "SELECT seq, order_id, amount, refunded FROM charges
         WHERE seq > $1 AND order_id <> '' ORDER BY seq LIMIT $2",
    );
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
