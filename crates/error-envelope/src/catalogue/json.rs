//! The catalogue as JSON, for programs.

use serde_json::{Value, json};

use super::{Catalogue, CodeEntry};
use crate::{Format, body};

impl Catalogue {
    /// `{"errors": […]}`: of each code all that is known of it, and an example of each form in
    /// which it leaves.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let errors: Vec<_> = self.entries().into_iter().map(entry).collect();
        json!({ "errors": errors })
    }
}

fn entry(entry: &CodeEntry) -> Value {
    let example = entry.example();
    let extensions = entry.extensions().iter().map(|extension| {
        json!({
            "name": extension.name(),
            "type": extension.kind().name(),
            "optional": extension.is_optional(),
            "description": extension.description(),
        })
    });
    json!({
        "code": entry.code(),
        "status": entry.status(),
        "title": example.title(),
        "type": example.type_uri(),
        "message": entry.message(),
        "description": entry.description(),
        "retryable": example.is_retryable(),
        "retry_after": entry.has_retry_after(),
        "grpc": example.rpc_code().name(),
        "fields": entry.has_fields(),
        "extensions": extensions.collect::<Vec<_>>(),
        "examples": {
            Format::Json.media_type(): of(entry, Format::Json),
            Format::ProblemJson.media_type(): of(entry, Format::ProblemJson),
            Format::RpcStatus.media_type(): of(entry, Format::RpcStatus),
        },
    })
}

/// The example's body in this form.
pub(super) fn of(entry: &CodeEntry, format: Format) -> Value {
    let body = body::of(&entry.example(), format);
    serde_json::from_slice(&body).expect("a body is JSON")
}
