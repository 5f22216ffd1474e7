//! The HTTP side: the layer as its users see it.

mod answers;
mod axum_glue;
mod disconnect;
mod layer;
mod mismatch;
mod over_tcp;
mod same_transaction;
pub(crate) mod stand;
mod store_down;
mod vectors;
