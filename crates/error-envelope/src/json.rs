//! Reads a JSON body, and says as a problem what is wrong with it.

use std::fmt;

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use mediatype::MediaType;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{Problem, shape};

/// Whether `Content-Type` says that the body is JSON: `application/json`, or any type with the
/// suffix `+json` (RFC 6839, section 3.1).
#[must_use]
pub fn media_type_is_json(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    // Two of them say nothing: who reads the other one reads another body.
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return false;
    };
    let Ok(Ok(media_type)) = field.to_str().map(MediaType::parse) else {
        return false;
    };
    let plain =
        media_type.ty == "application" && media_type.subty == "json" && media_type.suffix.is_none();
    plain || media_type.suffix.is_some_and(|suffix| suffix == "json")
}

/// Refuses a request whose body is not said to be JSON; see [`media_type_is_json`].
///
/// # Errors
///
/// 415 `UNSUPPORTED_MEDIA_TYPE`.
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    if media_type_is_json(headers) {
        return Ok(());
    }
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let told = "The body must be sent as application/json.";
    Err(Problem::new(status, "UNSUPPORTED_MEDIA_TYPE", told))
}

/// Reads `body` as one JSON value of type `T`.
///
/// The whole body is checked to be JSON before its shape is looked at, so what is no JSON is 400
/// even where the shape is wrong before that.
///
/// ```
/// use buttress_error_envelope::parse_json;
///
/// #[derive(Debug, serde::Deserialize)]
/// struct Order { quantity: u32 }
///
/// assert_eq!(parse_json::<Order>(b"{\"quantity\": 2}").unwrap().quantity, 2);
/// assert_eq!(parse_json::<Order>(b"{\"quantity\": ").unwrap_err().status(), 400);
/// let wrong = parse_json::<Order>(b"{\"quantity\": \"two\"}").unwrap_err();
/// assert_eq!(wrong.status(), 422);
/// assert_eq!(wrong.fields()[0].path(), "quantity");
/// assert_eq!(wrong.fields()[0].message(), "must be an integer");
/// ```
///
/// # Errors
///
/// 400 `MALFORMED_REQUEST` when it is empty, no UTF-8, no JSON (RFC 8259), more than one value, or
/// nested more than 127 deep; 422 `VALIDATION_FAILED` with the path of the first value of the
/// wrong shape. The words are ours: no name of a Rust type and none of the caller's input but the
/// path is in them.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii().is_empty() {
        return Err(malformed("The body is empty; JSON is expected."));
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(malformed("The body is not UTF-8."));
    };
    serde_json::from_str::<Wellformed>(text).map_err(not_json)?;
    let mut json = serde_json::Deserializer::from_str(text);
    // It is JSON, so whatever fails now is the shape, also where serde_json calls it syntax: a
    // null in the place of an enum.
    serde_path_to_error::deserialize(&mut json).map_err(|error| shape::problem(&error))
}

fn malformed(message: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", message)
}

fn not_json(error: serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let message = format!("The body is not valid JSON (line {line}, column {column}).");
    Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", message).with_source(error)
}

/// Any JSON value, looked at in full and thrown away. Not `IgnoredAny`, which skips over a value
/// without looking at its numbers and however deep it is nested.
struct Wellformed;

impl<'de> Deserialize<'de> for Wellformed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Wellformed {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Order {
        quantity: u32,
    }

    #[test]
    fn what_is_no_json_is_400_even_where_the_shape_is_wrong_before_that() {
        let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
        let deep_within = [
            br#"{"quantity": 1, "more": "#.to_vec(),
            deep.clone(),
            b"}".to_vec(),
        ];
        let table: [&[u8]; 19] = [
            b"",
            b" \t\r\n",
            b"{",
            b"{\"quantity\": ",
            b"{\"quantity\": 1}}",
            b"{\"quantity\": 1} {}",
            b"{\"quantity\": 1,}",
            b"{quantity: 1}",
            b"{'quantity': 1}",
            b"{\"quantity\": 01}",
            b"{\"quantity\": 1e999}",
            b"{\"quantity\": NaN}",
            b"{\"quantity\": \"two\"} trailing",
            b"{\"quantity\": 1, \"x\": \"\\ud800\"}",
            b"{\"quantity\": 1, \"x\": \"\x01\"}",
            b"\xef\xbb\xbf{\"quantity\": 1}",
            b"{\"quantity\": \"\xff\"}",
            &deep,
            &deep_within.concat(),
        ];
        for body in table {
            let problem = parse_json::<Order>(body).unwrap_err();
            assert_eq!(problem.to_string(), "MALFORMED_REQUEST (400)", "{body:?}");
            assert!(problem.fields().is_empty());
        }
    }

    #[test]
    fn a_value_of_another_kind_in_the_place_of_an_enum_is_a_wrong_shape() {
        #[derive(Debug, Deserialize)]
        enum Payment {
            #[serde(rename = "cash")]
            Cash,
        }

        #[derive(Debug, Deserialize)]
        struct Paid {
            by: Payment,
        }

        let paid = parse_json::<Paid>(br#"{"by": "cash"}"#).unwrap();
        assert!(matches!(paid.by, Payment::Cash));
        for value in [
            "null",
            "7",
            "[]",
            "true",
            "{}",
            r#""card""#,
            r#"{"cash": 1}"#,
        ] {
            let body = format!(r#"{{"by": {value}}}"#);
            let problem = parse_json::<Paid>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.status(), 422, "{value}");
            assert!(
                problem.fields()[0].path().starts_with("by"),
                "{value}: {problem:?}"
            );
        }
    }

    #[test]
    fn json_of_the_right_shape_is_read_whatever_else_is_in_it() {
        let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
        for body in [
            r#" {"quantity": 3} "#.to_owned(),
            r#"{"more": [1, -2, 0.5, 1e3, true, null, {"a": "b"}], "quantity": 3}"#.to_owned(),
            format!(r#"{{"more": {deep}, "quantity": 3}}"#),
        ] {
            assert_eq!(parse_json::<Order>(body.as_bytes()).unwrap().quantity, 3);
        }
        assert!(parse_json::<serde_json::Value>(b"null").unwrap().is_null());
    }

    #[test]
    fn only_one_content_type_that_is_json_will_do() {
        let of = |fields: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(field));
            }
            require_json(&headers).map_err(|problem| problem.to_string())
        };
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/merge-patch+json",
            "application/vnd.shop.v2+JSON",
            "image/svg+json",
        ] {
            assert_eq!(of(&[json]), Ok(()), "{json}");
        }
        for other in [
            "",
            "json",
            "text/json",
            "text/plain",
            "application/jsonp",
            "application/json+xml",
            "application/x-www-form-urlencoded",
            "application/json, text/plain",
        ] {
            let refused = Err("UNSUPPORTED_MEDIA_TYPE (415)".to_owned());
            assert_eq!(of(&[other]), refused, "{other}");
        }
        assert!(of(&[]).is_err());
        assert!(of(&["application/json", "application/json"]).is_err());
    }
}
