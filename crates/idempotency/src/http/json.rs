//! JSON bodies that say the same, however they are written, have one form.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The body in the canonical form of RFC 8785 (JCS), if it has one that loses nothing.
///
/// JCS knows numbers as doubles, and objects without duplicate members: it is defined for I-JSON
/// (RFC 7493). A body beyond that (9007199254740993, say, or `{"a":1,"a":2}`) would share its
/// canonical form with one that says something else, so it has none; nor has one that is no JSON.
pub(super) fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    if !numbers_are_exact(body) {
        return None;
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = Unambiguous.deserialize(&mut json).ok()?;
    json.end().ok()?;
    serde_json_canonicalizer::to_vec(&value).ok()
}

/// Whether each number has at most 15 digits, all of which a double keeps, and an exponent that it
/// can have. Two such numbers are the same double only if they are the same number.
fn numbers_are_exact(body: &[u8]) -> bool {
    let mut rest = body.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(rest.next()),
                        _ => {}
                    }
                }
            }
            b'0'..=b'9' => {
                let (mut digits, mut exponent) = (1, None::<u32>);
                while let Some(next) = rest
                    .next_if(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
                {
                    match (next, &mut exponent) {
                        (b'e' | b'E', _) => exponent = Some(0),
                        (b'0'..=b'9', Some(exponent)) => *exponent += 1,
                        (b'0'..=b'9', None) => digits += 1,
                        _ => {}
                    }
                }
                if digits > 15 || exponent.is_some_and(|digits| digits > 2) {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

/// Reads any JSON; an object with a member twice is an error.
#[derive(Clone, Copy)]
struct Unambiguous;

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element_seed(self)? {
            all.push(element);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self)?;
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(body: &str) -> Option<String> {
        canonical(body.as_bytes()).map(|form| String::from_utf8(form).unwrap())
    }

    #[test]
    fn what_says_the_same_has_one_form() {
        for (one, other) in [
            (
                r#"{"a":1,"b":[true,null]}"#,
                " { \"b\" : [ true , null ] ,\n\"a\":1 } ",
            ),
            (r#""\u00e9\/""#, "\"é/\""),
            ("1", "1.0"),
            ("1e2", "100"),
            ("0.5", "5e-1"),
            ("-0", "0"),
            (r#"{"a":{"c":1,"b":2}}"#, r#"{"a":{"b":2,"c":1}}"#),
        ] {
            let form = form(one);
            assert!(form.is_some() && form == self::form(other), "{one} {other}");
        }
    }

    #[test]
    fn what_says_something_else_has_another() {
        for (one, other) in [
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1}"#, r#"{"A":1}"#),
            ("[1,2]", "[2,1]"),
            ("1", "\"1\""),
            ("null", "false"),
            (r#"{"a":null}"#, "{}"),
            ("\"é\"", "\"e\u{301}\""),
            ("0.1", "0.10000000000001"),
        ] {
            assert_ne!(form(one), form(other), "{one} {other}");
        }
    }

    #[test]
    fn what_a_double_or_a_map_would_change_has_none() {
        for body in [
            "9007199254740993",
            "{\"a\":[-9007199254740993]}",
            "0.1000000000000000055",
            "1e400",
            "1e-400",
            "12345678901234567890123",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"[{"b":{"a":1,"a":1}}]"#,
        ] {
            assert_eq!(form(body), None, "{body}");
        }
        // Digits within a string are none of a number.
        assert!(form("\"9007199254740993 \\\" 9007199254740993\"").is_some());
    }

    #[test]
    fn what_is_no_json_has_none() {
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "{",
            "{}x",
            "\"\\ud800\"",
            "NaN",
            "1 2",
            "\"",
            "\"\\",
            deep.as_str(),
        ] {
            assert_eq!(form(body), None);
        }
        assert_eq!(canonical(b"\"\xff\""), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Into::into),
            (-999_999_999_999_i64..999_999_999_999).prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::hash_map(".{0,4}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_values_have_one_form_only_if_they_are_equal(one in json(), other in json()) {
            let form = |value: &Value| canonical(value.to_string().as_bytes());
            prop_assert!(form(&one).is_some());
            prop_assert_eq!(form(&one) == form(&other), one == other);
            let pretty = serde_json::to_vec_pretty(&one).unwrap();
            prop_assert_eq!(canonical(&pretty), form(&one));
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = canonical(&body);
        }
    }
}
