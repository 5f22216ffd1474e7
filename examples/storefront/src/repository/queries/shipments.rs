//! What the shipment service writes: one row a key, whichever came first.

use async_trait::async_trait;

use super::{
    super::super::{KeyState, Result, Shipments},
    Store, key_state, to_the_end,
};

#[async_trait]
impl Shipments for Store {
    async fn ship(&self, key: &str, order_id: &str) -> Result<KeyState> {
        let (store, key, order_id) = (self.clone(), key.to_owned(), order_id.to_owned());
        to_the_end(async move {
            let mut tx = store.begin_write().await?;
            sqlx::query(
                "INSERT INTO shipments (key, state, order_id) VALUES ($1, 'done', $2)
                 ON CONFLICT (key) DO NOTHING",
            )
            .bind(&key)
            .bind(&order_id)
            .execute(&mut *tx)
            .await?;
            let state =
                key_state(&mut tx, "SELECT state FROM shipments WHERE key = $1", &key).await?;
            tx.commit().await?;
            Ok(state)
        })
        .await
    }

    async fn cancel_shipment(&self, key: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO shipments (key, state, order_id) VALUES ($1, 'cancelled', '')
             ON CONFLICT (key) DO UPDATE SET state = 'cancelled'",
        )
        .bind(key)
        .execute(self.writer())
        .await?;
        Ok(())
    }
}
