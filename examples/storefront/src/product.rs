//! What a product is.

use serde::Serialize;

/// A product as it stands in the catalogue.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Product {
    pub(crate) id: String,
    pub(crate) name: String,
    /// In minor units.
    pub(crate) price: i64,
    pub(crate) stock: i64,
    /// Counts changes of name and price, and no others.
    pub(crate) version: i64,
}

/// What is to be changed of a product; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProductChange {
    pub(crate) name: Option<String>,
    pub(crate) price: Option<i64>,
    pub(crate) stock: Option<i64>,
}
