//! What the shipment service writes: one row a key, whichever came first.

use async_trait::async_trait;

use super::{
    super::super::{KeyState, Result, Shipments},
    Connection, Phase, Store, key_state,
};

#[async_trait]
impl Shipments for Store {
    async fn ship(&self, key: &str, order_id: &str) -> Result<KeyState> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let shipped = deadline
            .run(Phase::InTransaction, ship_in(&mut tx, key, order_id))
            .await;
        tx.finish(shipped).await
    }

    async fn cancel_shipment(&self, key: &str) -> Result<()> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let cancelled = deadline
            .run(Phase::InTransaction, cancel_in(&mut tx, key))
            .await;
        tx.finish(cancelled).await
    }
}

async fn ship_in(tx: &mut Connection, key: &str, order_id: &str) -> sqlx::Result<KeyState> {
    let ship = sqlx::query(
        "INSERT INTO shipments (key, state, order_id) VALUES ($1, 'done', $2)
         ON CONFLICT (key) DO NOTHING",
    );
    ship.bind(key).bind(order_id).execute(&mut *tx).await?;
    key_state(tx, "SELECT state FROM shipments WHERE key = $1", key).await
}

async fn cancel_in(tx: &mut Connection, key: &str) -> sqlx::Result<()> {
    let cancel = sqlx::query(
        "INSERT INTO shipments (key, state, order_id) VALUES ($1, 'cancelled', '')
         ON CONFLICT (key) DO UPDATE SET state = 'cancelled'",
    );
    cancel.bind(key).execute(tx).await?;
    Ok(())
}
