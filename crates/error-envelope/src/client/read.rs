//! What a body says: which form it is in, and its members, as far as they can be read.

use std::borrow::Cow;

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use mediatype::MediaType;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{RemoteForm, google, problem::Told};
use crate::{FieldError, FieldPath, FieldSource, media_type_is_json};

/// What the headers say about the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ProblemJson,
    /// JSON of some form, or no word about it.
    Json,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let Some(field) = headers.get(CONTENT_TYPE) else {
            return Self::Json;
        };
        if is_problem_json(field) {
            Self::ProblemJson
        } else if media_type_is_json(headers) {
            Self::Json
        } else {
            Self::Other
        }
    }
}

fn is_problem_json(field: &HeaderValue) -> bool {
    field
        .to_str()
        .ok()
        .and_then(|field| MediaType::parse(field).ok())
        .is_some_and(|it| {
            it.ty == "application"
                && it.subty == "problem"
                && it.suffix.is_some_and(|suffix| suffix == "json")
        })
}

/// What this body says.
pub(super) fn body(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Told {
    let kind = Kind::of(headers);
    // RFC 8259, section 8.1: who reads JSON may skip a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if kind == Kind::Other {
        return Told::nothing();
    }
    // What is nested deeper than 127 is an error here, and no overflow of the stack.
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
        return Told::nothing();
    };
    if kind == Kind::ProblemJson {
        return problem_json(members);
    }
    match members.get("error").and_then(Value::as_object) {
        Some(error) if error.get("code").is_some_and(Value::is_string) => envelope(status, members),
        Some(error) if google::is_status(error) => match members.remove("error") {
            Some(Value::Object(error)) => google::status(error),
            _ => Told::nothing(),
        },
        _ if google::is_bare_status(&members) => google::status(members),
        _ if is_problem(&members) => problem_json(members),
        _ => Told::nothing(),
    }
}

/// Whether an object that nobody called a problem is one: it has a member of RFC 9457's, of the
/// right type.
fn is_problem(members: &Map<String, Value>) -> bool {
    let text = |name| members.get(name).is_some_and(Value::is_string);
    ["type", "title", "detail"].into_iter().any(text)
}

fn problem_json(mut members: Map<String, Value>) -> Told {
    let mut told = Told::in_form(RemoteForm::ProblemJson);
    told.type_uri = text(members.remove("type"));
    told.title = text(members.remove("title"));
    told.detail = text(members.remove("detail"));
    told.instance = text(members.remove("instance"));
    let status = members.remove("status");
    told.status = status
        .and_then(|status| status.as_u64())
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..600).contains(status));
    // These are extensions of ours. One of another type is somebody else's, and is kept.
    told.code = take(&mut members, "code", text_ref);
    told.truncated = take(&mut members, "truncated", Value::as_bool) == Some(true);
    told.retryable = take(&mut members, "retryable", Value::as_bool);
    // Why it failed, of a service in debug mode, is for its own developers alone.
    members.remove("debug");
    told.fields = take(&mut members, "errors", errors).unwrap_or_default();
    told.extensions = members;
    told
}

fn envelope(status: StatusCode, mut members: Map<String, Value>) -> Told {
    let mut told = Told::in_form(RemoteForm::Envelope);
    let Some(Value::Object(mut error)) = members.remove("error") else {
        return told;
    };
    told.code = text(error.remove("code"));
    told.detail = text(error.remove("message"));
    told.truncated = error.remove("truncated") == Some(Value::Bool(true));
    told.retryable = error.remove("retryable").and_then(|it| it.as_bool());
    match error.remove("details") {
        Some(Value::Object(details)) => match details_fields(status, &details) {
            Some(fields) => told.fields = fields,
            None => told.extensions = details,
        },
        None | Some(Value::Null) => {}
        Some(other) => drop(told.extensions.insert("details".to_owned(), other)),
    }
    told
}

/// The envelope's `details` do not say whether they are fields. With a status that speaks of the
/// request's content, a map of texts is.
fn details_fields(status: StatusCode, details: &Map<String, Value>) -> Option<Vec<FieldError>> {
    if !matches!(status.as_u16(), 400 | 422) || details.is_empty() {
        return None;
    }
    let field = |(path, message): (&String, &Value)| {
        let message = message.as_str()?.to_owned();
        Some(FieldError::at(FieldPath::from_dotted(path), message))
    };
    details.iter().map(field).collect()
}

/// The list of RFC 9457, section 3, as far as its elements can be read; `None` for another list.
fn errors(value: &Value) -> Option<Vec<FieldError>> {
    let list = value.as_array()?;
    let fields: Vec<_> = list.iter().filter_map(field).collect();
    (list.is_empty() || !fields.is_empty()).then_some(fields)
}

fn field(item: &Value) -> Option<FieldError> {
    let text = |name| item.get(name).and_then(Value::as_str);
    let source = if let Some(pointer) = text("pointer") {
        FieldSource::Body(fragment(pointer))
    } else if let Some(name) = text("parameter") {
        FieldSource::Parameter(name.to_owned().into())
    } else if let Some(name) = text("header") {
        FieldSource::Header(name.to_owned().into())
    } else {
        FieldSource::Body(FieldPath::root())
    };
    let field = FieldError::new(source, text("detail")?.to_owned());
    Some(match text("code") {
        Some(code) => field.with_code(code.to_owned()),
        None => field,
    })
}

/// A JSON Pointer, as a URI fragment (RFC 6901, section 6) or as it is.
fn fragment(pointer: &str) -> FieldPath {
    let Some(encoded) = pointer.strip_prefix('#') else {
        return FieldPath::from_pointer(pointer);
    };
    let decoded: Cow<'_, str> = percent_decode_str(encoded).decode_utf8_lossy();
    FieldPath::from_pointer(&decoded)
}

/// Takes a member out if it can be read.
fn take<T>(
    members: &mut Map<String, Value>,
    name: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Option<T> {
    let value = members.get(name).and_then(read)?;
    members.remove(name);
    Some(value)
}

fn text_ref(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A text; anything else is as good as absent.
pub(super) fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}
