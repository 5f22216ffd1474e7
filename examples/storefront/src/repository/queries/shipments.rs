//! What the shipment service writes: one row a key, whichever came first.

use async_trait::async_trait;

use super::{
    super::super::{KeyState, Result, Shipments},
    Connection, Phase, Store, key_state, sql,
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
    let ship = sqlx::query(sql::SHIP);
    ship.bind(key).bind(order_id).execute(&mut *tx).await?;
    key_state(tx, sql::SHIPMENT_STATE, key).await
}

async fn cancel_in(tx: &mut Connection, key: &str) -> sqlx::Result<()> {
    let cancel = sqlx::query(sql::CANCEL_SHIPMENT);
    cancel.bind(key).execute(tx).await?;
    Ok(())
}
