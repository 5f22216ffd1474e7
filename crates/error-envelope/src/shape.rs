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
    // The path leads to the object that lacks a member, but to an unknown member itself.
    let is_there = |key: &&str| told.starts_with("unknown ") && ends_with(error.path(), key);
    if let Some(key) = key.filter(|key| !is_there(key)) {
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
            .or_else(|| rest.rfind("`, there are no fields"))
            .or_else(|| rest.rfind('`'));
        return (end.map(|end| &rest[..end]), "is not a known field");
    }
    if told.starts_with("unknown variant `") {
        return (None, "is not one of the allowed values");
    }
    match told.rsplit_once(", expected ") {
        // An array in the place of an object is read by position, and is too short.
        Some((found, expected)) if found.starts_with("invalid length ") => {
            let is_object = expected.starts_with("struct ");
            let wrong = "has the wrong length";
            (None, if is_object { wanted(expected) } else { wrong })
        }
        Some((found, expected)) if found.starts_with("invalid type: ") => (None, wanted(expected)),
        Some((found, expected))
            if found.starts_with("invalid value: integer ") && is_number(expected) =>
        {
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

/// The same for a parameter or a header field, whose values are texts.
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
#[cfg(feature = "query")]
pub(crate) fn last_key(path: &Path) -> Option<String> {
    path.iter().rev().find_map(|step| match step {
        Segment::Map { key } => Some(key.clone()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use crate::parse_json;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is used")]
    struct SecretOrder {
        items: Vec<SecretItem>,
        note: Option<String>,
        kind: Option<SecretKind>,
        tags: Option<BTreeMap<String, bool>>,
        pair: Option<(u8, u8)>,
        price: Option<f64>,
        id: Option<SecretId>,
        nonzero: Option<std::num::NonZeroU32>,
        unit: Option<()>,
        note2: Option<Box<SecretItem>>,
        address: Option<std::net::IpAddr>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its shape is used")]
    struct SecretItem {
        quantity: u8,
        quantities: Option<Nested>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its shape is used")]
    struct Nested {
        nested: u8,
        quantities: u8,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "only its shape is used")]
    enum SecretKind {
        Plain,
        Gift { note: String },
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct SecretId;

    impl TryFrom<String> for SecretId {
        type Error = &'static str;

        fn try_from(_: String) -> Result<Self, &'static str> {
            Err("SecretId wants, expected u32 at line 7")
        }
    }

    #[test]
    fn each_wrong_shape_is_told_by_path_in_words_without_type_names() {
        let table = [
            (json!([]), "$", "must be an object"),
            (json!(1), "$", "must be an object"),
            (json!({}), "items", "is required"),
            (json!({"items": null}), "items", "must be an array"),
            (json!({"items": {}}), "items", "must be an array"),
            (json!({"items": [1]}), "items[0]", "must be an object"),
            (
                json!({"items": [{"quantity": 1}, {}]}),
                "items[1].quantity",
                "is required",
            ),
            (
                json!({"items": [{"quantity": "1"}]}),
                "items[0].quantity",
                "must be an integer",
            ),
            (
                json!({"items": [{"quantity": 1.5}]}),
                "items[0].quantity",
                "must be an integer",
            ),
            (
                json!({"items": [{"quantity": 256}]}),
                "items[0].quantity",
                "is out of range",
            ),
            (
                json!({"items": [{"quantity": -1}]}),
                "items[0].quantity",
                "is out of range",
            ),
            (
                json!({"items": [{"quantity": 1, "quantities": {"nested": 1}}]}),
                "items[0].quantities.quantities",
                "is required",
            ),
            (
                json!({"items": [], "more": 1}),
                "more",
                "is not a known field",
            ),
            (
                json!({"items": [], "a`, expected `b": 1}),
                "[\"a`, expected `b\"]",
                "is not a known field",
            ),
            (
                json!({"items": [], "a at line 3": 1}),
                "[\"a at line 3\"]",
                "is not a known field",
            ),
            (json!({"items": [], "note": 1}), "note", "must be a string"),
            (
                json!({"items": [], "kind": "other"}),
                "kind",
                "is not one of the allowed values",
            ),
            (
                json!({"items": [], "kind": {"gift": {"note": 1}}}),
                "kind.gift.note",
                "must be a string",
            ),
            (
                json!({"items": [], "kind": {"gift": {}}}),
                "kind.gift.note",
                "is required",
            ),
            (
                json!({"items": [], "tags": {"a.b": 1}}),
                "tags[\"a.b\"]",
                "must be true or false",
            ),
            (
                json!({"items": [], "pair": [1]}),
                "pair",
                "has the wrong length",
            ),
            (json!({"items": [], "pair": 1}), "pair", "must be an array"),
            (
                json!({"items": [], "price": "1"}),
                "price",
                "must be a number",
            ),
            (json!({"items": [], "id": "x"}), "id", "is not valid"),
            (json!({"items": [], "id": 1}), "id", "must be a string"),
            (
                json!({"items": [], "nonzero": 0}),
                "nonzero",
                "is out of range",
            ),
            (json!({"items": [], "unit": 1}), "unit", "must be null"),
            (
                json!({"items": [], "note2": {}}),
                "note2.quantity",
                "is required",
            ),
            (
                json!({"items": [], "address": "x"}),
                "address",
                "is not valid",
            ),
        ];
        for (body, path, message) in table {
            let problem = parse_json::<SecretOrder>(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(problem.code(), "VALIDATION_FAILED", "{body}");
            let [field] = problem.fields() else {
                panic!("{body}: one field")
            };
            assert_eq!((&*field.path(), field.message()), (path, message), "{body}");
            for format in [crate::Format::Json, crate::Format::ProblemJson] {
                let shown = problem.render(format).into_body();
                let shown = String::from_utf8(shown.to_vec()).unwrap();
                for secret in ["Secret", "struct", "u8", "enum"] {
                    assert!(!shown.contains(secret), "{shown}");
                }
            }
        }
    }

    #[test]
    fn a_member_given_twice_is_told() {
        let body = br#"{"items": [{"quantity": 1, "quantity": 2}]}"#;
        let problem = parse_json::<SecretOrder>(body).unwrap_err();
        assert_eq!(problem.fields()[0].path(), "items[0].quantity");
        assert_eq!(problem.fields()[0].message(), "is given more than once");
    }
}
