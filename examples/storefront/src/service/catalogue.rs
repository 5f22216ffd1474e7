//! Reading and changing products.
//!
//! This is where `buttress-cache-aside` will be plugged in: until then every read goes to the
//! database, and says so.

use crate::{
    product::{Product, ProductChange},
    repository::{Database, StoreError},
};

#[derive(Clone)]
pub(crate) struct Catalogue {
    database: Database,
}

/// Why a product was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeRefused {
    #[error("there is no such product")]
    NotFound,
    #[error("the product has another version")]
    VersionConflict,
    #[error("the database failed")]
    Store(#[from] StoreError),
}

/// Judges the version that a product has: whether it may be changed.
pub(crate) type Precondition<'a> = &'a (dyn Fn(i64) -> bool + Send + Sync);

impl Catalogue {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(crate) async fn page(&self, after: &str, limit: i64) -> Result<Vec<Product>, StoreError> {
        self.database.products(after, limit).await
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Option<Product>, StoreError> {
        self.database.product(id).await
    }

    /// Changes the product, if the version it has then passes `precondition`.
    pub(crate) async fn change(
        &self,
        id: &str,
        change: ProductChange,
        precondition: Precondition<'_>,
    ) -> Result<Product, ChangeRefused> {
        // Another change of name or price may come in between; each round, one of them got through.
        loop {
            let product = self
                .database
                .product(id)
                .await?
                .ok_or(ChangeRefused::NotFound)?;
            if !precondition(product.version) {
                return Err(ChangeRefused::VersionConflict);
            }
            if let Some(changed) = self
                .database
                .change_product(id, product.version, change.clone())
                .await?
            {
                return Ok(changed);
            }
        }
    }
}
