//! Problems and envelopes as axum responses, and extractors that reject with a [`Problem`].
//!
//! [`Problem`]: crate::Problem

mod json;
mod path;
mod query;
mod respond;

pub use self::{json::Json, path::Path, query::Query};
