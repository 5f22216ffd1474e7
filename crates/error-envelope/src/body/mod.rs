//! The JSON bodies of a problem, each within its bound.

mod room;

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::room::Room;
use crate::{FieldError, FieldSource, Format, Problem, RpcStatus};

/// No body of an error is longer than this, whatever went into the problem: 8 KiB.
pub const MAX_BODY: usize = 8 * 1024;

/// How many bytes of JSON each part may take, quotes included. Together with [`FRAME`] they leave
/// more than 3 KiB for fields and extensions.
const MAX_CODE: usize = 256;
const MAX_MESSAGE: usize = 2048;
const MAX_TITLE: usize = 512;
const MAX_URI: usize = 1024;
const MAX_FIELD_MESSAGE: usize = 512;
const MAX_FIELD_PATH: usize = 512;
const MAX_DEBUG: usize = 2048;
/// What the fixed members' names, braces and commas take, with room to spare.
const FRAME: usize = 256;

/// RFC 9457, section 3, with our extensions `code`, `errors`, `retryable`, `debug` and `truncated`.
#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Cow<'a, str>>,
    status: u16,
    detail: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    code: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ErrorItem<'a>>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
}

#[derive(Serialize)]
struct ErrorItem<'a> {
    detail: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct EnvelopeBody<'a> {
    success: bool,
    error: EnvelopeError<'a>,
}

#[derive(Serialize)]
struct EnvelopeError<'a> {
    code: Cow<'a, str>,
    message: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Details<'a> {
    Fields(BTreeMap<String, String>),
    Extensions(BTreeMap<&'a str, &'a Value>),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The body of `problem` in `format`: valid JSON of at most [`MAX_BODY`] bytes.
pub(crate) fn of(problem: &Problem, format: Format) -> Bytes {
    if format == Format::RpcStatus {
        return json(&RpcStatus::within(problem, MAX_BODY));
    }
    let mut room = Room::of(MAX_BODY - FRAME);
    let code = room.text(problem.code(), MAX_CODE).unwrap_or_default();
    let message = room
        .text(problem.message(), MAX_MESSAGE)
        .unwrap_or_default();
    if format == Format::Json {
        return json(&EnvelopeBody {
            success: false,
            error: EnvelopeError {
                code,
                message,
                details: details(&mut room, problem),
                retryable: problem.retryable_as_given(),
                debug: debug(&mut room, problem),
                truncated: room.is_cut(),
            },
        });
    }
    json(&ProblemBody {
        // Half a URI names something else: one that is too long is left out.
        r#type: match room.whole(problem.type_uri(), MAX_URI) {
            Some(uri) => uri.into(),
            None => "about:blank".into(),
        },
        title: problem
            .title()
            .and_then(|title| room.text(title, MAX_TITLE)),
        status: problem.status().as_u16(),
        detail: message,
        instance: problem.instance().and_then(|uri| room.whole(uri, MAX_URI)),
        code,
        errors: errors(&mut room, problem.fields()),
        extensions: extensions(&mut room, problem),
        retryable: problem.retryable_as_given(),
        debug: debug(&mut room, problem),
        truncated: room.is_cut(),
    })
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body)
        .expect("strings, numbers and JSON values with string keys always serialize")
        .into()
}

fn debug<'a>(room: &mut Room, problem: &'a Problem) -> Option<Cow<'a, str>> {
    room.text(problem.debug()?, MAX_DEBUG)
}

fn details<'a>(room: &mut Room, problem: &'a Problem) -> Option<Details<'a>> {
    if problem.fields().is_empty() {
        let extensions = extensions(room, problem);
        return (!extensions.is_empty()).then_some(Details::Extensions(extensions));
    }
    let mut fields = BTreeMap::<String, String>::new();
    for field in problem.fields() {
        let Some((path, message)) = room.entry(|room| {
            let path = field.path();
            room.whole(&path, MAX_FIELD_PATH)?;
            Some((path, room.text(field.message(), MAX_FIELD_MESSAGE)?))
        }) else {
            continue;
        };
        let told = fields.entry(path.into_owned()).or_default();
        if !told.is_empty() {
            told.push_str("; ");
        }
        told.push_str(&message);
    }
    Some(Details::Fields(fields))
}

fn errors<'a>(room: &mut Room, fields: &'a [FieldError]) -> Vec<ErrorItem<'a>> {
    let item = |field: &'a FieldError| {
        room.entry(|room| {
            let (mut pointer, mut parameter, mut header) = (None, None, None);
            match field.source() {
                FieldSource::Body(path) => {
                    let fragment = path.to_fragment();
                    room.whole(&fragment, MAX_FIELD_PATH)?;
                    pointer = Some(fragment);
                }
                FieldSource::Parameter(name) => {
                    parameter = Some(room.whole(&**name, MAX_FIELD_PATH)?);
                }
                FieldSource::Header(name) => header = Some(room.whole(&**name, MAX_FIELD_PATH)?),
            }
            Some(ErrorItem {
                detail: room.text(field.message(), MAX_FIELD_MESSAGE)?,
                pointer,
                parameter,
                header,
                code: field.code().and_then(|code| room.whole(code, MAX_CODE)),
            })
        })
    };
    fields.iter().filter_map(item).collect()
}

fn extensions<'a>(room: &mut Room, problem: &'a Problem) -> BTreeMap<&'a str, &'a Value> {
    let entry = |(name, value): (&'a String, &'a Value)| {
        room.entry(|room| {
            let name = room.whole(name.as_str(), MAX_BODY)?;
            Some((name, room.whole(value, MAX_BODY)?))
        })
    };
    problem.extensions().iter().filter_map(entry).collect()
}
