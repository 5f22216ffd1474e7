//! What is wrong with the shape of a JSON value, in words that name no Rust type.

use serde_path_to_error::{Error, Path, Segment};

use crate::{FieldError, FieldErrors, FieldPath, Problem, ToProblem};

/// The 422 for a value that is JSON and has the wrong shape.
pub(crate) fn problem(error: &Error<serde_json::Error>) -> Problem {
    let told = error.inner().to_string();
    // serde_json appends the place; nothing of the caller's comes after the last " at line ".
    let told = told
        .rsplit_once(" at line ")
        .map_or(&*told, |(told, _)| told);
    let (key, message) = sentence(told);
    let mut path = field_path(error.path());
    if let Some(key) = key.filter(|key| !ends_with(error.path(), key)) {
        path = path.key(key);
    }
    FieldErrors::from_iter([FieldError::at(path, message)]).to_problem()
}

fn ends_with(path: &Path, key: &str) -> bool {
    matches!(path.iter().next_back(), Some(Segment::Map { key: last }) if last == key)
}

fn field_path(path: &Path) -> FieldPath {
    path.iter()
        .fold(FieldPath::root(), |path, step| match step {
            Segment::Seq { index } => path.index(*index),
            Segment::Map { key } => path.key(key),
            Segment::Enum { variant } => path.key(variant),
            Segment::Unknown => path,
        })
}

/// The member that serde's message names beyond the path, and our words for what it says. The
/// forms are those of `serde::de::Error`'s provided methods; all else is "is not valid", for a
/// message of someone else's may say anything.
pub(crate) fn sentence(told: &str) -> (Option<&str>, &'static str) {
    if let Some(rest) = told.strip_prefix("missing field `") {
        return (rest.strip_suffix('`'), "is required");
    }
    if let Some(rest) = told.strip_prefix("duplicate field `") {
        return (rest.strip_suffix('`'), "is given more than once");
    }
    if let Some(rest) = told.strip_prefix("unknown field `") {
        let end = rest
            .rfind("`, expected ")
            .or_else(|| rest.rfind("`, there are no fields"));
        return (end.map(|end| &rest[..end]), "is not a known field");
    }
    if told.starts_with("unknown variant `") {
        return (None, "is not one of the allowed values");
    }
    if told.starts_with("invalid length ") {
        return (None, "has the wrong length");
    }
    let expected = told
        .rsplit_once(", expected ")
        .map(|(_, expected)| expected);
    match expected {
        Some(expected) if told.starts_with("invalid type: ") => (None, wanted(expected)),
        Some(expected) if told.starts_with("invalid value: integer ") && is_number(expected) => {
            (None, "is out of range")
        }
        _ => (None, "is not valid"),
    }
}

/// What serde's own visitors say they expect.
pub(crate) fn wanted(expected: &str) -> &'static str {
    match expected {
        "f32" | "f64" => "must be a number",
        _ if is_number(expected) => "must be an integer",
        "a boolean" | "bool" => "must be true or false",
        "a string" | "a borrowed string" | "a character" | "string or map" => "must be a string",
        "a map" => "must be an object",
        "unit" | "null" => "must be null",
        _ if expected.starts_with("struct ") => "must be an object",
        _ if expected.starts_with("a sequence")
            || expected.starts_with("an array")
            || expected.starts_with("a tuple") =>
        {
            "must be an array"
        }
        _ => "has the wrong type",
    }
}

fn is_number(expected: &str) -> bool {
    const NAMES: [&str; 14] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
        "f32", "f64",
    ];
    // `NonZeroU32` says "a nonzero u32".
    NAMES.contains(&expected.strip_prefix("a nonzero ").unwrap_or(expected))
}

/// The same for a parameter of the query, whose values are texts.
#[cfg(feature = "axum")]
pub(crate) fn parameter(told: &str) -> (Option<String>, &'static str) {
    let (key, message) = sentence(told);
    let message = match told {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be an integer"
        }
        "number too large to fit in target type" | "number too small to fit in target type" => {
            "is out of range"
        }
        "invalid float literal" | "cannot parse float from empty string" => "must be a number",
        "provided string was not `true` or `false`" => "must be true or false",
        _ => message,
    };
    (key.map(str::to_owned), message)
}

/// The name of the parameter in which an error was found.
#[cfg(feature = "axum")]
pub(crate) fn last_key(path: &Path) -> Option<String> {
    path.iter().rev().find_map(|step| match step {
        Segment::Map { key } => Some(key.clone()),
        _ => None,
    })
}
