//! A problem as google.rpc.Status, within a bound.

use std::time::Duration;

use serde_json::Value;

use super::{
    BadRequest, DebugInfo, ErrorInfo, FieldViolation, RetryInfo, RpcDetail, RpcStatus,
    detail::{is_key, is_reason},
};
use crate::{Problem, body::Room};

/// How many bytes of JSON each part may take.
const MAX_MESSAGE: usize = 1024;
const MAX_DOMAIN: usize = 256;
const MAX_DEBUG: usize = 2048;
const MAX_FIELD: usize = 512;
/// Braces, names and the `@type` of each detail, with room to spare.
const FRAME: usize = 768;
/// What is put in the place of a code that no reason can be made of.
const NO_REASON: &str = "UNKNOWN_REASON";

impl From<&Problem> for RpcStatus {
    fn from(problem: &Problem) -> Self {
        Self::within(problem, crate::MAX_BODY)
    }
}

impl RpcStatus {
    /// The status whose JSON has at most `most` bytes, of which 2 KiB are needed at least. What
    /// does not fit is cut or left out, and the metadata's `truncated` says so.
    pub(crate) fn within(problem: &Problem, most: usize) -> Self {
        let mut room = Room::of(most.saturating_sub(FRAME));
        let message = room.text(problem.message(), MAX_MESSAGE);
        let domain = room.whole(problem.domain().unwrap_or_default(), MAX_DOMAIN);
        let mut status = Self::new(problem.rpc_code(), message.unwrap_or_default());
        let violations = violations(&mut room, problem);
        let metadata = metadata(&mut room, problem);
        let debug = problem.debug().and_then(|it| room.text(it, MAX_DEBUG));
        let debug = debug.map(std::borrow::Cow::into_owned);
        let reason = reason(problem.code());
        if reason.len() < problem.code().len() {
            room.leave_out();
        }
        let mut info =
            ErrorInfo::new(reason, domain.unwrap_or_default()).expect("a reason was made of it");
        let cut = room
            .is_cut()
            .then(|| ("truncated".to_owned(), "true".to_owned()));
        for (key, value) in metadata.into_iter().chain(cut) {
            let with = info.with_metadata(key, value);
            info = with.expect("only keys were kept");
        }
        let mut add = |detail| {
            let with = status.clone().with_detail(detail);
            status = with.expect("each type is added once");
        };
        add(RpcDetail::ErrorInfo(info));
        if !violations.is_empty() {
            add(RpcDetail::BadRequest(BadRequest { violations }));
        }
        if let Some(wait) = problem.retry_after() {
            let delay = Duration::from_secs(wait.as_secs());
            add(RpcDetail::RetryInfo(RetryInfo { delay }));
        }
        if let Some(debug) = debug {
            add(RpcDetail::DebugInfo(DebugInfo::new(debug)));
        }
        status
    }
}

/// The code, as a reason: what is no letter or digit becomes `_`, and letters are raised.
fn reason(code: &str) -> String {
    if is_reason(code) {
        return code.to_owned();
    }
    let raised = code.chars().take(63).map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    });
    let raised: String = raised.collect();
    let raised = raised.trim_matches('_').to_owned();
    if is_reason(&raised) {
        raised
    } else {
        NO_REASON.to_owned()
    }
}

fn violations(room: &mut Room, problem: &Problem) -> Vec<FieldViolation> {
    let violation = |field: &crate::FieldError| {
        room.entry(|room| {
            let path = field.path();
            room.whole(&*path, MAX_FIELD)?;
            let description = room.text(field.message(), MAX_FIELD)?;
            let mut violation = FieldViolation::new(path, description);
            if let Some(code) = field.code().and_then(|code| room.whole(code, MAX_FIELD)) {
                code.clone_into(&mut violation.reason);
            }
            Some(violation)
        })
    };
    problem.fields().iter().filter_map(violation).collect()
}

/// The extensions whose names are keys by AIP-193: `vmType`, not `VmType`, which is left out. Texts
/// go as they are, other values as their JSON.
fn metadata(room: &mut Room, problem: &Problem) -> Vec<(String, String)> {
    let retryable = problem.retryable_as_given();
    let retryable = retryable.map(|it| ("retryable".to_owned(), it.to_string()));
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let entry = |(name, value): (&String, &Value)| {
        room.entry(|room| {
            let value = text(value);
            room.whole(name.as_str(), MAX_FIELD)?;
            room.whole(&*value, crate::MAX_BODY)?;
            Some((name.clone(), value))
        })
    };
    let (keys, others): (Vec<_>, Vec<_>) = problem
        .extensions()
        .iter()
        .partition(|(name, _)| is_key(name));
    let mut metadata: Vec<_> = keys.into_iter().filter_map(entry).collect();
    if !others.is_empty() {
        room.leave_out();
    }
    metadata.extend(retryable);
    metadata
}
