//! `google.rpc.Status` in JSON, with the details that AIP-193 names.

use std::time::Duration;

use buttress_core::RetryAfter;
use serde_json::{Map, Value};

use super::{RemoteForm, problem::Told, read::text};
use crate::{FieldError, FieldPath, RpcCode};

/// What stands before the name of a detail's type.
const PREFIX: &str = "type.googleapis.com/google.rpc.";

/// Whether what stands under `error` is one: `{"code": 404, "status": "NOT_FOUND", …}`.
pub(super) fn is_status(error: &Map<String, Value>) -> bool {
    error.get("code").is_some_and(Value::is_u64)
        || error.get("status").is_some_and(Value::is_string)
}

/// Whether the body itself is one: `{"code": 5, "message": …, "details": […]}`.
pub(super) fn is_bare_status(members: &Map<String, Value>) -> bool {
    let is_code = members
        .get("code")
        .and_then(Value::as_u64)
        .is_some_and(|code| (1..17).contains(&code));
    let ours = ["type", "title", "detail"];
    is_code && members.contains_key("message") && !ours.iter().any(|it| members.contains_key(*it))
}

/// Reads one, in either of the two ways in which it is written.
pub(super) fn status(mut members: Map<String, Value>) -> Told {
    let mut told = Told::in_form(RemoteForm::GoogleRpc);
    told.detail = text(members.remove("message"));
    let number = members.remove("code").and_then(|code| code.as_u64());
    // Within `error` the number is a status of HTTP, and the code stands under `status`; bare, it
    // is the code.
    told.status = number
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..600).contains(status));
    told.code = text(members.remove("status")).or_else(|| {
        let number = i32::try_from(number?).ok()?;
        let is_code = (0..17).contains(&number);
        is_code.then(|| RpcCode::from_number(number).name().to_owned())
    });
    if let Some(Value::Array(details)) = members.remove("details") {
        let others: Vec<_> = details
            .into_iter()
            .filter_map(|detail| other_than_known(&mut told, detail))
            .collect();
        if !others.is_empty() {
            told.extensions
                .entry("details")
                .or_insert(Value::Array(others));
        }
    }
    told
}

/// Takes in a detail that is known, and gives back any other.
fn other_than_known(told: &mut Told, detail: Value) -> Option<Value> {
    let name = detail.get("@type").and_then(Value::as_str);
    let Some(name) = name.and_then(|name| name.strip_prefix(PREFIX)) else {
        return Some(detail);
    };
    match name {
        "ErrorInfo" => error_info(told, detail),
        "BadRequest" => {
            let list = detail.get("fieldViolations").and_then(Value::as_array);
            told.fields
                .extend(list.into_iter().flatten().filter_map(violation));
        }
        "RetryInfo" => {
            let delay = detail.get("retryDelay").and_then(Value::as_str);
            told.retry_after = delay.and_then(duration).map(RetryAfter::from);
        }
        "RequestInfo" => {
            let id = detail.get("requestId").and_then(Value::as_str);
            told.request_id = id.map(str::to_owned);
        }
        // Why it failed is for the other service's own developers alone.
        "DebugInfo" => {}
        _ => return Some(detail),
    }
    None
}

fn error_info(told: &mut Told, mut info: Value) {
    let mut take = |name| info.get_mut(name).map(Value::take);
    if let Some(reason) = text(take("reason")).filter(|reason| !reason.is_empty()) {
        told.code = Some(reason);
    }
    told.domain = text(take("domain"));
    if let Some(Value::Object(mut metadata)) = take("metadata") {
        let truncated = metadata.remove("truncated");
        told.truncated |= truncated.is_some_and(|it| it == "true");
        told.extensions.extend(metadata);
    }
}

fn violation(item: &Value) -> Option<FieldError> {
    let text = |name| item.get(name).and_then(Value::as_str);
    let message = text("description")?.to_owned();
    let path = FieldPath::from_dotted(text("field").unwrap_or("$"));
    let field = FieldError::at(path, message);
    Some(match text("reason").filter(|reason| !reason.is_empty()) {
        Some(reason) => field.with_code(reason.to_owned()),
        None => field,
    })
}

/// A duration as protobuf's JSON writes it, `1.500s`; `None` for one below zero.
fn duration(text: &str) -> Option<Duration> {
    let (whole, fraction) = match text.strip_suffix('s')?.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (text.strip_suffix('s')?, "0"),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || fraction.len() > 9 || !digits(fraction) {
        return None;
    }
    // Digits that do not fit are a number all the same, and a large one.
    let seconds = whole.parse().unwrap_or(u64::MAX);
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds, nanos))
}
