//! Placing orders, and reading them.

use std::{iter::Peekable, vec::IntoIter};

use async_trait::async_trait;
use sqlx::Row as _;
use uuid::Uuid;

use super::{
    super::super::{Acceptance, OrderKey, OrderSagas, Orders, Render, Result},
    Connection, Phase, Row, Store, now, returned, unreadable, word, word_or_none,
};
use crate::order::{NewOrder, Order, OrderItem, OrderStatus, Placed, Step, StepName, StepState};

#[async_trait]
impl Orders for Store {
    async fn accept(
        &self,
        order: NewOrder,
        key: OrderKey,
        render: Render,
        sagas: &OrderSagas,
    ) -> Result<Acceptance> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let accepted = accept_in(&mut tx, &order, &key, render);
        let accepted = deadline.run(Phase::InTransaction, accepted).await;
        let Ok(Acceptance::Accepted {
            order_id, total, ..
        }) = &accepted
        else {
            return tx.finish(accepted).await;
        };
        let placed = Placed {
            order_id: order_id.clone(),
            total: *total,
            payment_method: order.payment_method,
        };
        let started = sagas.start_in(&mut *tx, &placed);
        let started = deadline.run(Phase::InTransaction, started).await;
        tx.finish(started).await?.fire();
        accepted
    }

    async fn order(&self, id: &str) -> Result<Option<Order>> {
        let mut loan = self.borrow().await?;
        let order = loan.deadline().run(Phase::Read, find(&mut loan, id)).await;
        returned(loan, order)
    }

    async fn orders(&self, before: Option<&str>, limit: i64) -> Result<Vec<Order>> {
        let mut loan = self.borrow().await?;
        let page = loan
            .deadline()
            .run(Phase::Read, page(&mut loan, before, limit))
            .await;
        returned(loan, page)
    }
}

async fn find(connection: &mut Connection, id: &str) -> sqlx::Result<Option<Order>> {
    let row = sqlx::query("SELECT * FROM orders WHERE id = $1").bind(id);
    let rows = row.fetch_all(&mut *connection).await?;
    Ok(read_orders(connection, &rows).await?.pop())
}

async fn page(
    connection: &mut Connection,
    before: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Order>> {
    let rows =
        sqlx::query("SELECT * FROM orders WHERE $1 IS NULL OR id < $1 ORDER BY id DESC LIMIT $2");
    let rows = rows
        .bind(before)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    read_orders(connection, &rows).await
}

async fn accept_in(
    tx: &mut Connection,
    wanted: &NewOrder,
    key: &OrderKey,
    render: Render,
) -> sqlx::Result<Acceptance> {
    let now = now(tx).await?;
    let horizon =
        now.saturating_sub(i64::try_from(key.remembered_for.as_micros()).unwrap_or(i64::MAX));
    sqlx::query("DELETE FROM order_keys WHERE client = $1 AND key = $2 AND created_at < $3")
        .bind(&key.client)
        .bind(&key.key)
        .bind(horizon)
        .execute(&mut *tx)
        .await?;
    let mut items = Vec::with_capacity(wanted.items.len());
    let mut unknown = Vec::new();
    for (position, item) in wanted.items.iter().enumerate() {
        let price = sqlx::query_scalar("SELECT price FROM products WHERE id = $1");
        match price
            .bind(&item.product_id)
            .fetch_optional(&mut *tx)
            .await?
        {
            Some(price) => items.push(OrderItem {
                product_id: item.product_id.clone(),
                quantity: item.quantity,
                price,
            }),
            None => unknown.push(position),
        }
    }
    if !unknown.is_empty() {
        return Ok(Acceptance::UnknownProducts(unknown));
    }

    let id = Uuid::now_v7().simple().to_string();
    // The key first: of two that come at once, one waits here for the other's commit.
    let claimed = sqlx::query(
        "INSERT INTO order_keys (client, key, fingerprint, order_id, response, created_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (client, key) DO NOTHING",
    )
    .bind(&key.client)
    .bind(&key.key)
    .bind(&key.fingerprint)
    .bind(&id)
    .bind(Vec::<u8>::new())
    .bind(now)
    .execute(&mut *tx)
    .await?;
    if claimed.rows_affected() == 0 {
        return replay(tx, key).await;
    }

    let order = Order {
        id,
        customer: wanted.customer.clone(),
        total: items.iter().map(|item| item.price * item.quantity).sum(),
        items,
        created_at: time(now)?,
        status: OrderStatus::Pending,
        reason: None,
        steps: StepName::ALL
            .map(|name| Step {
                name,
                state: StepState::Pending,
                attempts: 0,
            })
            .to_vec(),
    };
    insert_order(tx, &order, wanted.payment_method.into(), now).await?;
    let response = render(&order);
    sqlx::query("UPDATE order_keys SET response = $1 WHERE client = $2 AND key = $3")
        .bind(&response)
        .bind(&key.client)
        .bind(&key.key)
        .execute(&mut *tx)
        .await?;
    Ok(Acceptance::Accepted {
        total: order.total,
        order_id: order.id,
        response,
    })
}

async fn replay(tx: &mut Connection, key: &OrderKey) -> sqlx::Result<Acceptance> {
    let first = sqlx::query(
        "SELECT fingerprint, order_id, response FROM order_keys WHERE client = $1 AND key = $2",
    );
    let first = first.bind(&key.client).bind(&key.key).fetch_one(tx).await?;
    if first.try_get::<Vec<u8>, _>("fingerprint")? != key.fingerprint {
        return Ok(Acceptance::KeyReused);
    }
    Ok(Acceptance::Replayed {
        order_id: first.try_get("order_id")?,
        response: first.try_get("response")?,
    })
}

async fn insert_order(
    tx: &mut Connection,
    order: &Order,
    payment_method: &'static str,
    now: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO orders (id, customer, payment_method, total, status, created_at)
         VALUES ($1, $2, $3, $4, 'pending', $5)",
    )
    .bind(&order.id)
    .bind(&order.customer)
    .bind(payment_method)
    .bind(order.total)
    .bind(now)
    .execute(&mut *tx)
    .await?;
    for (position, item) in (0_i64..).zip(&order.items) {
        sqlx::query(
            "INSERT INTO order_items (order_id, position, product_id, quantity, price)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&order.id)
        .bind(position)
        .bind(&item.product_id)
        .bind(item.quantity)
        .bind(item.price)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// The orders of `rows`, which follow one another by descending id, with their items.
async fn read_orders(connection: &mut Connection, rows: &[Row]) -> sqlx::Result<Vec<Order>> {
    let (Some(newest), Some(oldest)) = (rows.first(), rows.last()) else {
        return Ok(Vec::new());
    };
    let (newest, oldest): (&str, &str) = (newest.try_get("id")?, oldest.try_get("id")?);
    let items = "SELECT * FROM order_items WHERE order_id BETWEEN $1 AND $2 ORDER BY order_id DESC, position";
    let mut items = between(connection, items, oldest, newest).await?;

    let mut orders = Vec::with_capacity(rows.len());
    for row in rows {
        let id: String = row.try_get("id")?;
        let mut order = read_order(row)?;
        while let Some(item) = items.next_if(|item| belongs(item, &id)) {
            order.items.push(OrderItem {
                product_id: item.try_get("product_id")?,
                quantity: item.try_get("quantity")?,
                price: item.try_get("price")?,
            });
        }
        orders.push(order);
    }
    Ok(orders)
}

/// What belongs to the orders from `oldest` to `newest`, to be taken off as it comes.
async fn between(
    connection: &mut Connection,
    query: &'static str,
    oldest: &str,
    newest: &str,
) -> sqlx::Result<Peekable<IntoIter<Row>>> {
    let rows = sqlx::query(query)
        .bind(oldest)
        .bind(newest)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().peekable())
}

fn belongs(row: &Row, order_id: &str) -> bool {
    row.try_get::<&str, _>("order_id")
        .is_ok_and(|id| id == order_id)
}

fn read_order(row: &Row) -> sqlx::Result<Order> {
    Ok(Order {
        id: row.try_get("id")?,
        customer: row.try_get("customer")?,
        items: Vec::new(),
        total: row.try_get("total")?,
        created_at: time(row.try_get("created_at")?)?,
        status: word(row, "status")?,
        reason: word_or_none(row, "reason")?,
        steps: Vec::new(),
    })
}

fn time(micros: i64) -> sqlx::Result<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(micros).map_err(|_| unreadable("created_at"))
}
