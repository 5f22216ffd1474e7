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
mod json;
mod preset;
mod problem;
mod render;
mod shape;
mod to_problem;
#[cfg(feature = "tower")]
pub mod tower;

pub use self::{
    body::MAX_BODY,
    envelope::Envelope,
    field::{FieldError, FieldErrors, FieldSource},
    field_path::FieldPath,
    format::Format,
    json::{media_type_is_json, parse_json, require_json},
    problem::Problem,
    to_problem::ToProblem,
};
