//! The two JSON bodies of a problem, each within its bound.

use std::{borrow::Cow, collections::BTreeMap, io};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::{FieldError, FieldSource, Format, Problem};

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
/// What the fixed members' names, braces and commas take, with room to spare.
const FRAME: usize = 256;
/// Around every string.
const QUOTES: usize = 2;

/// RFC 9457, section 3, with our extensions `code`, `errors` and `truncated`.
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
    let mut room = Room {
        left: MAX_BODY - FRAME,
        cut: false,
    };
    let code = room.text(problem.code(), MAX_CODE).unwrap_or_default();
    let message = room
        .text(problem.message(), MAX_MESSAGE)
        .unwrap_or_default();
    let written = match format {
        Format::Json => serde_json::to_vec(&EnvelopeBody {
            success: false,
            error: EnvelopeError {
                code,
                message,
                details: details(&mut room, problem),
                truncated: room.cut,
            },
        }),
        Format::ProblemJson => serde_json::to_vec(&ProblemBody {
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
            truncated: room.cut,
        }),
    };
    written
        .expect("strings, numbers and JSON values with string keys always serialize")
        .into()
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

/// What is left of the bound while a body is put together, and whether anything was left out.
struct Room {
    left: usize,
    cut: bool,
}

impl Room {
    /// What names, braces, commas and the `; ` between messages take in one entry, at most.
    const ENTRY: usize = 48;

    /// One entry of a list or a map: all of it goes in, or nothing.
    fn entry<T>(&mut self, fill: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.left;
        let entry = before.checked_sub(Self::ENTRY).and_then(|left| {
            self.left = left;
            fill(self)
        });
        if entry.is_none() {
            self.left = before;
            self.cut = true;
        }
        entry
    }

    /// `value` if its JSON fits in both `most` and what is left.
    fn whole<'a, T: Serialize + ?Sized>(&mut self, value: &'a T, most: usize) -> Option<&'a T> {
        match json_len(value, most.min(self.left)) {
            Some(len) => {
                self.left -= len;
                Some(value)
            }
            None => {
                self.cut = true;
                None
            }
        }
    }

    /// `text` if its JSON is no longer than `most`, else as much of its beginning as is; nothing
    /// if that is more than what is left.
    fn text<'a>(&mut self, text: &'a str, most: usize) -> Option<Cow<'a, str>> {
        if json_len(text, most).is_some() {
            return self.whole(text, most).map(Cow::Borrowed);
        }
        self.cut = true;
        self.left = self.left.checked_sub(most)?;
        Some(beginning(text, most).into())
    }
}

/// As much of `text` as makes JSON of at most `most` bytes, quotes and an ellipsis included.
fn beginning(text: &str, most: usize) -> String {
    let mut left = most.saturating_sub(QUOTES + '…'.len_utf8());
    let mut utf8 = [0; 4];
    let fits = |c: &char| {
        let len = json_len(&*c.encode_utf8(&mut utf8), MAX_BODY).map(|len| len - QUOTES);
        match len.and_then(|len| left.checked_sub(len)) {
            Some(less) => {
                left = less;
                true
            }
            None => false,
        }
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// How many bytes of JSON `value` is; `None` when it is more than `most`, found out without
/// writing more than that.
fn json_len<T: Serialize + ?Sized>(value: &T, most: usize) -> Option<usize> {
    let mut scale = Scale { left: most };
    serde_json::to_writer(&mut scale, value).ok()?;
    Some(most - scale.left)
}

/// Counts what is written to it, and fails when it is too much.
struct Scale {
    left: usize,
}

impl io::Write for Scale {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.left.checked_sub(bytes.len()) {
            Some(left) => {
                self.left = left;
                Ok(bytes.len())
            }
            None => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
