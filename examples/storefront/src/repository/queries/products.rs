//! The catalogue.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    super::super::{Products, Result},
    Connection, Phase, Row, Store, returned,
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
    let page = sqlx::query("SELECT * FROM products WHERE id > $1 ORDER BY id LIMIT $2");
    let page = page.bind(after).bind(limit).fetch_all(connection).await?;
    page.iter().map(read_product).collect()
}

async fn find(connection: &mut Connection, id: &str) -> sqlx::Result<Option<Product>> {
    let one = sqlx::query("SELECT * FROM products WHERE id = $1");
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
    let changed = sqlx::query(
        "UPDATE products
         SET name = coalesce($1, name), price = coalesce($2, price), stock = coalesce($3, stock),
             version = version + CASE
                 WHEN coalesce($1, name) <> name OR coalesce($2, price) <> price THEN 1 ELSE 0
             END
         WHERE id = $4 AND version = $5
         RETURNING *",
    );
    let changed = changed
        .bind(change.name)
        .bind(change.price)
        .bind(change.stock);
    let changed = changed.bind(id).bind(version).fetch_optional(tx).await?;
    changed.as_ref().map(read_product).transpose()
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
