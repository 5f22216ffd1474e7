//! Placing orders, and reading them.

use std::{iter::Peekable, vec::IntoIter};

use async_trait::async_trait;
use buttress_idempotency::{Begin, Idempotency};
use buttress_store::AfterCommit;
use sqlx::Row as _;
use uuid::{ContextV7, Timestamp, Uuid};

use super::{
    super::super::{
        Acceptance, OrderKey, OrderSagas, Orders, Render, Result, StoreError, of_completion,
    },
    super::Claim,
    Connection, Phase, Row, Store, answered, now, products, returned, sql, time, word,
    word_or_none,
};
use crate::{
    event::OrderEvent,
    order::{NewOrder, Order, OrderItem, OrderStatus, Placed, Step, StepName, StepState},
    telemetry,
};

#[async_trait]
impl Orders for Store {
    fn order_keys(&self) -> &Idempotency {
        &self.order_keys
    }

    async fn accept(
        &self,
        order: &NewOrder,
        key: &OrderKey,
        render: Render,
        sagas: &OrderSagas,
    ) -> Result<Acceptance> {
        let claim = match self.claim(order, key).await? {
            Ok(claim) => claim,
            Err(acceptance) => return Ok(acceptance),
        };
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let accepted = self.accept_in(&mut tx, order, (key, claim), render, sagas);
        let accepted = deadline.run(Phase::InTransaction, accepted).await;
        let (acceptance, committed) = tx.finish(accepted).await?;
        committed.fire();
        Ok(acceptance)
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
    let row = sqlx::query(sql::ORDER).bind(id);
    let rows = row.fetch_all(&mut *connection).await?;
    Ok(read_orders(connection, &rows).await?.pop())
}

async fn page(
    connection: &mut Connection,
    before: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query(sql::ORDERS);
    let rows = rows
        .bind(before)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    read_orders(connection, &rows).await
}

impl Store {
    async fn accept_in(
        &self,
        tx: &mut Connection,
        wanted: &NewOrder,
        (key, claim): (&OrderKey, Claim),
        render: Render,
        sagas: &OrderSagas,
    ) -> Result<(Acceptance, AfterCommit)> {
        let not_placed = |acceptance| Ok((acceptance, AfterCommit::nothing()));
        // What is wrong with the order is said before what is wrong with its key.
        let items = priced(tx, wanted).await;
        let items = match items.map_err(StoreError::in_transaction)? {
            Ok(items) => items,
            Err(unknown) => return not_placed(Acceptance::UnknownProducts(unknown)),
        };
        let guard = match self.claimed_in(tx, key, claim).await? {
            Begin::New(guard) => guard,
            other => return not_placed(answered(other)),
        };
        let order = placed(tx, wanted, items).await;
        let order = order.map_err(StoreError::in_transaction)?;
        let event = OrderEvent::Placed { total: order.total };
        let told = self.tell_in(tx, &order.id, event).await?;
        let placed = Placed {
            order_id: order.id.clone(),
            total: order.total,
            payment_method: wanted.payment_method,
            traceparent: telemetry::traceparent(),
        };
        let started = sagas.start_in(tx, &placed).await?;
        let answer = render(&order);
        let completed = guard.complete_in(tx, answer.encode()).await;
        let completed = completed.map_err(of_completion)?;
        let committed = completed.and(told).and(started);
        Ok((Acceptance::Accepted(answer), committed))
    }
}

/// The items with their prices, or the positions of those that name no product.
pub(in super::super) async fn priced(
    tx: &mut Connection,
    wanted: &NewOrder,
) -> sqlx::Result<Result<Vec<OrderItem>, Vec<usize>>> {
    let mut items = Vec::with_capacity(wanted.items.len());
    let mut unknown = Vec::new();
    for (position, item) in wanted.items.iter().enumerate() {
        let product = products::find(tx, &item.product_id).await?;
        // MySQL takes `p1` and `p1 ` for one.
        match product.filter(|product| product.id == item.product_id) {
            Some(product) => items.push(OrderItem {
                product_id: product.id,
                quantity: item.quantity,
                price: product.price,
            }),
            None => unknown.push(position),
        }
    }
    Ok(if unknown.is_empty() {
        Ok(items)
    } else {
        Err(unknown)
    })
}

/// In the order of `created_at`, to the microsecond and whichever instance takes the order: both are read off the
/// database's clock.
fn new_id(now: i64) -> String {
    const SECOND: u64 = 1_000_000;
    let micros = now.unsigned_abs();
    let nanos = u32::try_from(micros % SECOND * 1000).unwrap_or(0);
    let precise = ContextV7::new().with_additional_precision();
    let time = Timestamp::from_unix(precise, micros / SECOND, nanos);
    Uuid::new_v7(time).simple().to_string()
}

async fn placed(
    tx: &mut Connection,
    wanted: &NewOrder,
    items: Vec<OrderItem>,
) -> sqlx::Result<Order> {
    let now = now(tx).await?;
    let order = Order {
        id: new_id(now),
        customer: wanted.customer.clone(),
        total: items.iter().map(|item| item.price * item.quantity).sum(),
        items,
        created_at: time(now, "created_at")?,
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
    Ok(order)
}

async fn insert_order(
    tx: &mut Connection,
    order: &Order,
    payment_method: &'static str,
    now: i64,
) -> sqlx::Result<()> {
    sqlx::query(sql::ADD_ORDER)
        .bind(&order.id)
        .bind(&order.customer)
        .bind(payment_method)
        .bind(order.total)
        .bind(now)
        .execute(&mut *tx)
        .await?;
    for (position, item) in (0_i64..).zip(&order.items) {
        sqlx::query(sql::ADD_ITEM)
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
    let mut items = items_between(connection, oldest, newest).await?;

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

/// The items of the orders from `oldest` to `newest`, to be taken off as they come.
async fn items_between(
    connection: &mut Connection,
    oldest: &str,
    newest: &str,
) -> sqlx::Result<Peekable<IntoIter<Row>>> {
    let rows = sqlx::query(sql::ITEMS_BETWEEN)
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
        created_at: time(row.try_get("created_at")?, "created_at")?,
        status: word(row, "status")?,
        reason: word_or_none(row, "reason")?,
        steps: Vec::new(),
    })
}
