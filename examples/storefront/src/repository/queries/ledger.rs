//! What the payment service writes: one row a key, whichever came first, charge or cancellation.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    super::super::{KeyState, Ledger, LedgerEntry, Result},
    Row, Store, key_state, to_the_end,
};

#[async_trait]
impl Ledger for Store {
    async fn charge(&self, key: &str, order_id: &str, amount: i64) -> Result<KeyState> {
        let (store, key, order_id) = (self.clone(), key.to_owned(), order_id.to_owned());
        to_the_end(async move {
            let mut tx = store.begin_write().await?;
            sqlx::query(
                "INSERT INTO charges (key, state, order_id, amount) VALUES ($1, 'done', $2, $3)
                 ON CONFLICT (key) DO NOTHING",
            )
            .bind(&key)
            .bind(&order_id)
            .bind(amount)
            .execute(&mut *tx)
            .await?;
            let state =
                key_state(&mut tx, "SELECT state FROM charges WHERE key = $1", &key).await?;
            tx.commit().await?;
            Ok(state)
        })
        .await
    }

    async fn cancel_charge(&self, key: &str) -> Result<()> {
        // One statement for both cases, so that a charge on its way cannot slip in between.
        sqlx::query(
            "INSERT INTO charges (key, state, order_id, amount) VALUES ($1, 'cancelled', '', 0)
             ON CONFLICT (key) DO UPDATE SET state = 'cancelled', refunded = charges.amount",
        )
        .bind(key)
        .execute(self.writer())
        .await?;
        Ok(())
    }

    async fn ledger(&self, after: i64, limit: i64) -> Result<Vec<LedgerEntry>> {
        // A mark that refuses a charge has no order: nothing was charged.
        let charges = sqlx::query(
            "SELECT seq, order_id, amount, refunded FROM charges
             WHERE seq > $1 AND order_id <> '' ORDER BY seq LIMIT $2",
        );
        let charges = charges
            .bind(after)
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        let read = |row: &Row| -> Result<LedgerEntry> {
            Ok(LedgerEntry {
                seq: row.try_get("seq")?,
                order_id: row.try_get("order_id")?,
                amount: row.try_get("amount")?,
                refunded: row.try_get("refunded")?,
            })
        };
        charges.iter().map(read).collect()
    }
}
