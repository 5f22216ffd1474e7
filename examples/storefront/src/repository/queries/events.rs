//! What is told of orders, in the transaction of what happened; and what the subscriber keeps.

use async_trait::async_trait;
use buttress_outbox::{Outbox, Taken};
use buttress_store::AfterCommit;
use sqlx::Row as _;

use super::{
    super::super::{Events, Result, StoreError, of_outbox},
    Connection, Phase, Row, Store, now, returned, sql, time,
};
use crate::event::{AppliedEvent, OrderEvent, ToldEvent};

impl Store {
    /// Tells of an order in the transaction that changes it, whose lock on the order's row keeps
    /// what is told in order. Fire what it returns after the commit.
    pub(super) async fn tell_in(
        &self,
        tx: &mut Connection,
        order_id: &str,
        event: OrderEvent,
    ) -> Result<AfterCommit> {
        let happened = now(tx).await.and_then(|now| time(now, "time"));
        let happened = happened.map_err(StoreError::in_transaction)?;
        let message = event.message(order_id, happened);
        let message = message.map_err(|error| of_outbox(error.into()))?;
        self.outbox.append_in(tx, &message).await.map_err(of_outbox)
    }

    async fn apply_in(&self, tx: &mut Connection, event: &ToldEvent) -> Result<()> {
        let taken = self.inbox.take_in(tx, &event.id).await;
        if taken.map_err(of_outbox)? == Taken::Before {
            return Ok(());
        }
        add(tx, event).await.map_err(StoreError::in_transaction)
    }
}

#[async_trait]
impl Events for Store {
    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    async fn apply(&self, event: &ToldEvent) -> Result<()> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let applied = self.apply_in(&mut tx, event);
        let applied = deadline.run(Phase::InTransaction, applied).await;
        tx.finish(applied).await
    }

    async fn events(&self, after: i64, limit: i64) -> Result<Vec<AppliedEvent>> {
        let mut loan = self.borrow().await?;
        let events = loan
            .deadline()
            .run(Phase::Read, events(&mut loan, after, limit))
            .await;
        returned(loan, events)
    }
}

/// Adds it under the next number, which is nobody else's until this transaction has ended.
async fn add(tx: &mut Connection, event: &ToldEvent) -> sqlx::Result<()> {
    sqlx::query(sql::COUNT_EVENT).execute(&mut *tx).await?;
    let last = sqlx::query_scalar(sql::LAST_EVENT);
    let seq: i64 = last.fetch_one(&mut *tx).await?;
    sqlx::query(sql::ADD_EVENT)
        .bind(seq)
        .bind(&event.id)
        .bind(&event.event_type)
        .bind(&event.subject)
        .bind(event.time.as_microsecond())
        .execute(tx)
        .await?;
    Ok(())
}

async fn events(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<AppliedEvent>> {
    let events = sqlx::query(sql::EVENTS);
    let events = events.bind(after).bind(limit).fetch_all(connection).await?;
    let read = |row: &Row| -> sqlx::Result<AppliedEvent> {
        Ok(AppliedEvent {
            seq: row.try_get("seq")?,
            id: row.try_get("id")?,
            event_type: row.try_get("type")?,
            subject: row.try_get("subject")?,
            time: time(row.try_get("time")?, "time")?,
        })
    };
    events.iter().map(read).collect()
}
