#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
pub mod axum;
mod body;
mod catalogue;
pub mod client;
#[cfg(feature = "debug-causes")]
mod debug;
#[cfg(feature = "derive")]
#[doc(hidden)]
pub mod derive;
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
mod rpc;
mod shape;
mod to_problem;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "validator")]
mod validator;

#[cfg(feature = "utoipa")]
pub use self::catalogue::openapi;
#[cfg(feature = "query")]
pub use self::query::parse_query;
#[cfg(feature = "derive")]
pub use buttress_error_envelope_derive::ToProblem;

pub use self::{
    body::MAX_BODY,
    catalogue::{
        Catalogue, CodeEntry, Codes, DuplicateCode, ExtensionEntry, ProblemCodes, ValueKind,
    },
    envelope::Envelope,
    field::{FieldError, FieldErrors, FieldSource},
    field_path::FieldPath,
    format::Format,
    header::parse_header,
    json::{media_type_is_json, parse_json, require_json},
    problem::Problem,
    rpc::{
        BadRequest, DebugInfo, DetailTwice, ErrorInfo, FieldViolation, InvalidErrorInfo,
        PreconditionFailure, PreconditionViolation, RetryInfo, RpcCode, RpcDetail, RpcStatus,
    },
    to_problem::ToProblem,
};
