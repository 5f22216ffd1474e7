//! The catalogue.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    super::super::{Products, Result},
    Connection, Phase, Row, Store, returned, sql,
};
use crate::product::{Product, ProductChange};

#[async_trait]
impl Products for Store {
    async fn products(&self, after: &str, limit: i64) -> Result<Vec<Product>> {
        let mut loan = self.borrow().await?;
        let page = loan
            .deadline()
            .run(Phase::Read, page(&mut loan, after, limit))
            .await;
        returned(loan, page)
    }

    async fn product(&self, id: &str) -> Result<Option<Product>> {
        let mut loan = self.borrow().await?;
        let product = loan.deadline().run(Phase::Read, find(&mut loan, id)).await;
        returned(loan, product)
    }

    async fn change_product(
        &self,
        id: &str,
        version: i64,
        change: ProductChange,
    ) -> Result<Option<Product>> {
        let mut tx = self.begin_write().await?;
        let deadline = tx.deadline();
        let changed = change_in(&mut tx, id, version, change);
        let changed = deadline.run(Phase::InTransaction, changed).await;
        tx.finish(changed).await
    }
}

async fn page(connection: &mut Connection, after: &str, limit: i64) -> sqlx::Result<Vec<Product>> {
    let page = sqlx::query(sql::PRODUCTS);
    let page = page.bind(after).bind(limit).fetch_all(connection).await?;
    page.iter().map(read_product).collect()
}

pub(super) async fn find(connection: &mut Connection, id: &str) -> sqlx::Result<Option<Product>> {
    let one = sqlx::query(sql::PRODUCT);
    one.bind(id)
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(read_product)
        .transpose()
}

async fn change_in(
    tx: &mut Connection,
    id: &str,
    version: i64,
    change: ProductChange,
) -> sqlx::Result<Option<Product>> {
    let changed = sqlx::query(sql::CHANGE_PRODUCT)
        .bind(change.name.clone())
        .bind(change.price)
        .bind(change.name)
        .bind(change.price)
        .bind(change.stock)
        .bind(id)
        .bind(version);
    if changed.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(None);
    }
    find(tx, id).await
}

fn read_product(row: &Row) -> sqlx::Result<Product> {
    Ok(Product {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        price: row.try_get("price")?,
        stock: row.try_get("stock")?,
        version: row.try_get("version")?,
    })
}
