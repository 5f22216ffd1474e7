//! google.rpc.Status and its JSON.

use std::mem::discriminant;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Value, json};

use super::{BadRequest, DebugInfo, ErrorInfo, PreconditionFailure, RetryInfo, RpcCode};

/// One detail of a [`RpcStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RpcDetail {
    /// Why, for programs.
    ErrorInfo(ErrorInfo),
    /// Which fields are wrong.
    BadRequest(BadRequest),
    /// When to come back.
    RetryInfo(RetryInfo),
    /// What state the system should be in first.
    PreconditionFailure(PreconditionFailure),
    /// What only developers may see.
    DebugInfo(DebugInfo),
}

/// A second detail of one type: AIP-193 allows each type once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status has at most one detail of each type, and {type_name} is there already")]
#[non_exhaustive]
pub struct DetailTwice {
    /// The detail's type.
    pub type_name: &'static str,
}

/// google.rpc.Status: what gRPC and services of Google's style answer with.
///
/// A [`Problem`](crate::Problem) makes one (`RpcStatus::from(&problem)`), with `ErrorInfo` always,
/// `BadRequest` where fields are wrong, `RetryInfo` where a time is known. Extensions are the
/// metadata of `ErrorInfo`, if their names are keys by AIP-193 (`[a-z][a-zA-Z0-9-_]+`); where
/// something was left out or cut, the metadata says `truncated`. Its JSON is that of Protocol
/// Buffers.
///
/// ```
/// use buttress_error_envelope::{Problem, RpcCode, RpcStatus};
///
/// let problem = Problem::new(404, "ORDER_NOT_FOUND", "There is no such order.")
///     .with_domain("shop.example.com");
/// let status = RpcStatus::from(&problem);
/// assert_eq!(status.code(), RpcCode::NotFound);
/// assert_eq!(
///     serde_json::to_value(&status).unwrap()["details"][0],
///     serde_json::json!({
///         "@type": "type.googleapis.com/google.rpc.ErrorInfo",
///         "reason": "ORDER_NOT_FOUND",
///         "domain": "shop.example.com",
///     }),
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcStatus {
    code: RpcCode,
    message: String,
    details: Vec<RpcDetail>,
}

impl RpcStatus {
    /// A status without details.
    pub fn new(code: RpcCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// The same with one more detail.
    ///
    /// # Errors
    ///
    /// When there is one of this type already.
    pub fn with_detail(mut self, detail: RpcDetail) -> Result<Self, DetailTwice> {
        let is_there = |old: &RpcDetail| discriminant(old) == discriminant(&detail);
        if self.details.iter().any(is_there) {
            let type_name = detail.type_name();
            return Err(DetailTwice { type_name });
        }
        self.details.push(detail);
        Ok(self)
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> RpcCode {
        self.code
    }

    /// The sentence for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details, each type at most once.
    #[must_use]
    pub fn details(&self) -> &[RpcDetail] {
        &self.details
    }
}

impl RpcDetail {
    const fn type_name(&self) -> &'static str {
        match self {
            Self::ErrorInfo(_) => "google.rpc.ErrorInfo",
            Self::BadRequest(_) => "google.rpc.BadRequest",
            Self::RetryInfo(_) => "google.rpc.RetryInfo",
            Self::PreconditionFailure(_) => "google.rpc.PreconditionFailure",
            Self::DebugInfo(_) => "google.rpc.DebugInfo",
        }
    }

    /// The fields, all of them: an empty one is left out by [`Serialize`].
    fn fields(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::ErrorInfo(info) => vec![
                ("reason", info.reason().into()),
                ("domain", info.domain().into()),
                ("metadata", json!(info.metadata())),
            ],
            Self::BadRequest(bad) => {
                let violations = bad.violations.iter().map(|it| {
                    object([
                        ("field", it.field.as_str()),
                        ("description", &it.description),
                        ("reason", &it.reason),
                    ])
                });
                vec![("fieldViolations", violations.collect())]
            }
            Self::RetryInfo(retry) => vec![("retryDelay", seconds(retry.delay).into())],
            Self::PreconditionFailure(failure) => {
                let violations = failure.violations.iter().map(|it| {
                    object([
                        ("type", it.kind.as_str()),
                        ("subject", &it.subject),
                        ("description", &it.description),
                    ])
                });
                vec![("violations", violations.collect())]
            }
            Self::DebugInfo(debug) => vec![("detail", debug.detail.as_str().into())],
        }
    }
}

/// A message of strings; empty ones are left out, as proto3's JSON leaves out defaults.
fn object<const N: usize>(fields: [(&str, &str); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, text)| !text.is_empty());
    let fields = fields.map(|(name, text)| (name.to_owned(), text.into()));
    Value::Object(fields.collect())
}

/// A `google.protobuf.Duration` in JSON: `1.5s`.
fn seconds(delay: std::time::Duration) -> String {
    let fraction = format!("{:09}", delay.subsec_nanos());
    match fraction.trim_end_matches('0') {
        "" => format!("{}s", delay.as_secs()),
        fraction => format!("{}.{fraction}s", delay.as_secs()),
    }
}

/// `{"code": 5, "message": …, "details": [{"@type": …}, …]}`.
impl Serialize for RpcStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", &self.code.number())?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("details", &Details(&self.details))?;
        map.end()
    }
}

struct Details<'a>(&'a [RpcDetail]);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for detail in self.0 {
            list.serialize_element(detail)?;
        }
        list.end()
    }
}

impl Serialize for RpcDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let url = format!("type.googleapis.com/{}", self.type_name());
        map.serialize_entry("@type", &url)?;
        for (name, value) in self.fields() {
            let is_empty = match &value {
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            if !is_empty {
                map.serialize_entry(name, &value)?;
            }
        }
        map.end()
    }
}
