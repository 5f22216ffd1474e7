//! Who settles which order, and until when.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;
use uuid::Uuid;

use super::{
    super::super::{Claim, Fenced, Progress, Result, Settlements, Settling},
    Connection, Phase, Store, now, progress, returned, word, word_or_none,
};

#[async_trait]
impl Settlements for Store {
    async fn claim_due(&self, lease: Duration, limit: i64) -> Result<Vec<Claim>> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let claimed = deadline
            .run(Phase::InTransaction, claim_in(&mut tx, lease, limit))
            .await;
        tx.finish(claimed).await
    }

    async fn settling(&self, id: &str) -> Result<Option<Settling>> {
        let mut loan = self.borrow().await?;
        let settling = loan
            .deadline()
            .run(Phase::Read, read_settling(&mut loan, id))
            .await;
        returned(loan, settling)
    }

    async fn progress(&self, claim: &Claim, progress: Progress) -> Result<Fenced> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let written = progress_in(&mut tx, claim, progress);
        let written = deadline.run(Phase::InTransaction, written).await;
        tx.finish(written).await
    }

    async fn release(&self, claim: &Claim) -> Result<()> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let released = deadline
            .run(Phase::InTransaction, release_in(&mut tx, claim))
            .await;
        tx.finish(released).await
    }
}

async fn claim_in(tx: &mut Connection, lease: Duration, limit: i64) -> sqlx::Result<Vec<Claim>> {
    let now = now(tx).await?;
    let token = Uuid::now_v7().simple().to_string();
    // The outer condition is asked again for a row that another instance has claimed while this
    // statement waited for it.
    let ids = sqlx::query_scalar(
        "UPDATE orders SET claim_token = $1, claimed_until = $2
         WHERE claimed_until <= $3 AND status = 'pending' AND id IN (
             SELECT id FROM orders
             WHERE status = 'pending' AND due_at <= $3 AND claimed_until <= $3
             ORDER BY due_at LIMIT $4
         ) RETURNING id",
    );
    let ids = ids
        .bind(&token)
        .bind(later(now, lease))
        .bind(now)
        .bind(limit);
    let ids = ids.fetch_all(tx).await?;
    Ok(ids
        .into_iter()
        .map(|order_id| Claim {
            order_id,
            token: token.clone(),
            lease,
        })
        .collect())
}

async fn progress_in(
    tx: &mut Connection,
    claim: &Claim,
    progress: Progress,
) -> sqlx::Result<Fenced> {
    let now = now(tx).await?;
    // The order's row first: it is locked until the commit, and the claim is checked on it.
    let held = sqlx::query(
        "UPDATE orders SET claimed_until = $1
         WHERE id = $2 AND claim_token = $3 AND status = 'pending'",
    );
    let held = held
        .bind(later(now, claim.lease))
        .bind(&claim.order_id)
        .bind(&claim.token);
    if held.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(Fenced::Lost);
    }
    progress::write(tx, &claim.order_id, progress, now).await?;
    Ok(Fenced::Written)
}

async fn release_in(tx: &mut Connection, claim: &Claim) -> sqlx::Result<()> {
    let release =
        sqlx::query("UPDATE orders SET claimed_until = 0 WHERE id = $1 AND claim_token = $2");
    release
        .bind(&claim.order_id)
        .bind(&claim.token)
        .execute(tx)
        .await?;
    Ok(())
}

/// The time `wait` after `now`, both in microseconds.
pub(super) fn later(now: i64, wait: Duration) -> i64 {
    now.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))
}

async fn read_settling(connection: &mut Connection, id: &str) -> sqlx::Result<Option<Settling>> {
    let order = sqlx::query(
        "SELECT o.id, o.status, o.total, o.payment_method, o.undo_reason,
                reserve.state AS reserve, charge.state AS charge,
                charge.unanswered + ship.unanswered AS unanswered
         FROM orders o
         JOIN order_steps reserve ON reserve.order_id = o.id AND reserve.name = 'reserve'
         JOIN order_steps charge ON charge.order_id = o.id AND charge.name = 'charge'
         JOIN order_steps ship ON ship.order_id = o.id AND ship.name = 'ship'
         WHERE o.id = $1",
    );
    let Some(row) = order.bind(id).fetch_optional(connection).await? else {
        return Ok(None);
    };
    Ok(Some(Settling {
        id: row.try_get("id")?,
        status: word(&row, "status")?,
        total: row.try_get("total")?,
        payment_method: word(&row, "payment_method")?,
        undo_reason: word_or_none(&row, "undo_reason")?,
        reserve: word(&row, "reserve")?,
        charge: word(&row, "charge")?,
        unanswered: row.try_get("unanswered")?,
    }))
}
