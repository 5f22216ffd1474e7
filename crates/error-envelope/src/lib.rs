#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
pub mod axum;
mod body;
pub mod client;
mod envelope;
mod field;
mod field_path;
mod format;
#[cfg(feature = "garde")]
mod garde;
mod header;
mod json;
#[cfg(feature = "page")]
pub mod page;
mod preset;
mod problem;
#[cfg(feature = "query")]
mod query;
mod render;
mod shape;
mod to_problem;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "validator")]
mod validator;

#[cfg(feature = "query")]
pub use self::query::parse_query;
pub use self::{
    body::MAX_BODY,
    envelope::Envelope,
    field::{FieldError, FieldErrors, FieldSource},
    field_path::FieldPath,
    format::Format,
    header::parse_header,
    json::{media_type_is_json, parse_json, require_json},
    problem::Problem,
    to_problem::ToProblem,
};
