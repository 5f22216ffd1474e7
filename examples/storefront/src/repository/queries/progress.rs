//! What a settlement learned, written: steps, stock, and the order's end.

use sqlx::Row as _;

use super::{super::super::Progress, Connection, claims::later};
use crate::order::{CancelReason, StepName, StepState};

/// Writes `progress` of an order whose row the transaction has locked.
pub(super) async fn write(
    tx: &mut Connection,
    order: &str,
    progress: Progress,
    now: i64,
) -> sqlx::Result<()> {
    match progress {
        Progress::Reserve => reserve(tx, order).await,
        Progress::Begin(step) => begin(tx, order, step).await,
        Progress::Charged => set_step(tx, order, StepName::Charge, StepState::Done).await,
        Progress::Declined => {
            set_step(tx, order, StepName::Charge, StepState::Failed).await?;
            put_back(tx, order).await?;
            cancel(tx, order, CancelReason::PaymentDeclined).await
        }
        Progress::GiveUp(reason) => {
            sqlx::query("UPDATE orders SET undo_reason = $1 WHERE id = $2")
                .bind(<&str>::from(reason))
                .bind(order)
                .execute(tx)
                .await?;
            Ok(())
        }
        Progress::Undone => {
            set_step(tx, order, StepName::Charge, StepState::Undone).await?;
            put_back(tx, order).await?;
            sqlx::query(
                "UPDATE orders SET status = 'cancelled', reason = undo_reason WHERE id = $1",
            )
            .bind(order)
            .execute(tx)
            .await?;
            Ok(())
        }
        Progress::Shipped => {
            set_step(tx, order, StepName::Ship, StepState::Done).await?;
            sqlx::query("UPDATE orders SET status = 'confirmed' WHERE id = $1")
                .bind(order)
                .execute(tx)
                .await?;
            Ok(())
        }
        Progress::Unanswered {
            step,
            may_be_done,
            again_in,
        } => {
            // Once a step may have been done, no later refusal makes that untrue.
            sqlx::query(
                "UPDATE order_steps SET unanswered = unanswered + 1,
                     state = CASE WHEN $1 OR maybe_done THEN 'unknown' ELSE 'pending' END,
                     maybe_done = $1 OR maybe_done
                 WHERE order_id = $2 AND name = $3",
            )
            .bind(may_be_done)
            .bind(order)
            .bind(<&str>::from(step))
            .execute(&mut *tx)
            .await?;
            hand_back(tx, order, later(now, again_in)).await
        }
        Progress::Postponed { begun, again_in } => {
            if let Some(step) = begun {
                sqlx::query(
                    "UPDATE order_steps SET attempts = attempts - 1,
                         state = CASE WHEN maybe_done THEN 'unknown' ELSE 'pending' END
                     WHERE order_id = $1 AND name = $2",
                )
                .bind(order)
                .bind(<&str>::from(step))
                .execute(&mut *tx)
                .await?;
            }
            hand_back(tx, order, later(now, again_in)).await
        }
    }
}

/// Gives up the claim, and lets nobody claim the order before `due`.
async fn hand_back(tx: &mut Connection, order: &str, due: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE orders SET due_at = $1, claimed_until = 0 WHERE id = $2")
        .bind(due)
        .bind(order)
        .execute(tx)
        .await?;
    Ok(())
}

async fn begin(tx: &mut Connection, order: &str, step: StepName) -> sqlx::Result<()> {
    // What was running and never ended, for its process died, may have been done.
    sqlx::query(
        "UPDATE order_steps SET maybe_done = (maybe_done OR state = 'running'),
             state = 'running', attempts = attempts + 1
         WHERE order_id = $1 AND name = $2",
    )
    .bind(order)
    .bind(<&str>::from(step))
    .execute(tx)
    .await?;
    Ok(())
}

async fn set_step(
    tx: &mut Connection,
    order: &str,
    step: StepName,
    state: StepState,
) -> sqlx::Result<()> {
    sqlx::query("UPDATE order_steps SET state = $1 WHERE order_id = $2 AND name = $3")
        .bind(<&str>::from(state))
        .bind(order)
        .bind(<&str>::from(step))
        .execute(tx)
        .await?;
    Ok(())
}

/// Sets the stock aside for all items or, when one of them is short, for none.
async fn reserve(tx: &mut Connection, order: &str) -> sqlx::Result<()> {
    begin(tx, order, StepName::Reserve).await?;
    let wanted = wanted(tx, order).await?;
    let mut taken = Vec::with_capacity(wanted.len());
    for (product, quantity) in &wanted {
        let enough =
            sqlx::query("UPDATE products SET stock = stock - $1 WHERE id = $2 AND stock >= $1");
        let enough = enough
            .bind(*quantity)
            .bind(product)
            .execute(&mut *tx)
            .await?;
        if enough.rows_affected() == 0 {
            for (product, quantity) in taken {
                give(tx, product, quantity).await?;
            }
            set_step(tx, order, StepName::Reserve, StepState::Failed).await?;
            return cancel(tx, order, CancelReason::OutOfStock).await;
        }
        taken.push((product, *quantity));
    }
    set_step(tx, order, StepName::Reserve, StepState::Done).await
}

/// Puts the stock back that was set aside.
async fn put_back(tx: &mut Connection, order: &str) -> sqlx::Result<()> {
    for (product, quantity) in &wanted(tx, order).await? {
        give(tx, product, *quantity).await?;
    }
    set_step(tx, order, StepName::Reserve, StepState::Undone).await
}

async fn give(tx: &mut Connection, product: &str, quantity: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE products SET stock = stock + $1 WHERE id = $2")
        .bind(quantity)
        .bind(product)
        .execute(tx)
        .await?;
    Ok(())
}

/// How much of each product, in the one order in which everybody locks their rows.
async fn wanted(tx: &mut Connection, order: &str) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query(
        "SELECT product_id, CAST(sum(quantity) AS BIGINT) AS quantity FROM order_items
         WHERE order_id = $1 GROUP BY product_id ORDER BY product_id",
    );
    let rows = rows.bind(order).fetch_all(tx).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("product_id")?, row.try_get("quantity")?)))
        .collect()
}

async fn cancel(tx: &mut Connection, order: &str, reason: CancelReason) -> sqlx::Result<()> {
    sqlx::query("UPDATE orders SET status = 'cancelled', reason = $1 WHERE id = $2")
        .bind(<&str>::from(reason))
        .bind(order)
        .execute(tx)
        .await?;
    Ok(())
}
