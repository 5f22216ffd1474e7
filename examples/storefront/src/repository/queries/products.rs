//! The catalogue.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    super::super::{Products, Result},
    Row, Store,
};
use crate::product::{Product, ProductChange};

#[async_trait]
impl Products for Store {
    async fn products(&self, after: &str, limit: i64) -> Result<Vec<Product>> {
        let page = sqlx::query("SELECT * FROM products WHERE id > $1 ORDER BY id LIMIT $2");
        let page = page
            .bind(after)
            .bind(limit)
            .fetch_all(self.reader())
            .await?;
        page.iter().map(read_product).collect()
    }

    async fn product(&self, id: &str) -> Result<Option<Product>> {
        let one = sqlx::query("SELECT * FROM products WHERE id = $1");
        one.bind(id)
            .fetch_optional(self.reader())
            .await?
            .as_ref()
            .map(read_product)
            .transpose()
    }

    async fn change_product(
        &self,
        id: &str,
        version: i64,
        change: ProductChange,
    ) -> Result<Option<Product>> {
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
        let changed = changed
            .bind(id)
            .bind(version)
            .fetch_optional(self.writer())
            .await?;
        changed.as_ref().map(read_product).transpose()
    }
}

fn read_product(row: &Row) -> Result<Product> {
    Ok(Product {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        price: row.try_get("price")?,
        stock: row.try_get("stock")?,
        version: row.try_get("version")?,
    })
}
