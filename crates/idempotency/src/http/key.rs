//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header, section 2).

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{
    BareItemFromInput, Parser,
    visitor::{Ignored, ParameterVisitor, parameter_visitor_with},
};

use super::KeyRefusal;
use crate::Key;

/// The header that carries the key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Which keys are taken from the header.
///
/// The draft has the key as a string of RFC 9651, in quotes; most clients send it bare. Both are
/// read, and `"abc"` and `abc` are one key; its length counts without the quotes. A quoted key may
/// have parameters, which mean nothing. A key is printable ASCII, and sent once: of two header
/// lines nobody knows which was meant.
///
/// | knob | default | range |
/// | --- | --- | --- |
/// | shortest | 1 | 1 to longest |
/// | longest | 255 | shortest to 255 |
///
/// Whoever guesses a key learns its answer, if he is in its scope: so a key should be as good as
/// random, and a service that cannot trust its callers to make good ones sets a higher `shortest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRule {
    shortest: usize,
    longest: usize,
}

impl KeyRule {
    /// The longest that any rule takes.
    pub const LONGEST: usize = Key::LONGEST;

    /// Keys of `shortest` to `longest` characters.
    ///
    /// # Errors
    ///
    /// [`KeyRuleError`], when no key could be as long, or one could be longer than 255.
    pub const fn new(shortest: usize, longest: usize) -> Result<Self, KeyRuleError> {
        if shortest == 0 || shortest > longest || longest > Self::LONGEST {
            return Err(KeyRuleError { shortest, longest });
        }
        Ok(Self { shortest, longest })
    }

    /// The key in these headers, without its quotes; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`KeyRefusal::Invalid`], when there is a header and no key that may be used in it. An empty
    /// header is invalid, not missing.
    pub fn read(&self, headers: &HeaderMap) -> Result<Option<Key>, KeyRefusal> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(KeyRefusal::Invalid);
        }
        let key = unquoted(value).ok_or(KeyRefusal::Invalid)?;
        if !(self.shortest..=self.longest).contains(&key.len()) {
            return Err(KeyRefusal::Invalid);
        }
        Key::new(key).map(Some).map_err(|_| KeyRefusal::Invalid)
    }

    /// The same where a key must be.
    ///
    /// # Errors
    ///
    /// [`KeyRefusal::Missing`] as well, when there is no such header.
    pub fn require(&self, headers: &HeaderMap) -> Result<Key, KeyRefusal> {
        self.read(headers)?.ok_or(KeyRefusal::Missing)
    }
}

impl Default for KeyRule {
    fn default() -> Self {
        Self {
            shortest: 1,
            longest: Self::LONGEST,
        }
    }
}

/// A rule that no key, or too long a key, would keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shortest..longest: {shortest}..{longest} is not within 1 to 255")]
pub struct KeyRuleError {
    shortest: usize,
    longest: usize,
}

/// The characters of the key, if they are printable ASCII.
fn unquoted(value: &HeaderValue) -> Option<String> {
    let bytes = value.as_bytes().trim_ascii();
    // Twice the longest and its quotes: every character may be escaped. More is not looked at.
    if bytes.len() > 2 * KeyRule::LONGEST + 2 {
        return None;
    }
    if bytes.first() == Some(&b'"') {
        return Parser::new(bytes).parse_item_with_visitor(as_string).ok();
    }
    let printable = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    printable.then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn as_string<'de>(
    item: BareItemFromInput<'de>,
) -> Result<impl ParameterVisitor<'de, Out = String>, NotAString> {
    let BareItemFromInput::String(string) = item else {
        return Err(NotAString);
    };
    Ok(parameter_visitor_with(Ignored, move |_| {
        Ok(string.as_str().to_owned())
    }))
}

#[derive(Debug, thiserror::Error)]
#[error("no string")]
struct NotAString;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(values: &[&str]) -> Result<Option<String>, KeyRefusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(IDEMPOTENCY_KEY, value);
        }
        let read = KeyRule::default().read(&headers)?;
        Ok(read.map(|key| String::from_utf8(key.as_bytes().into()).unwrap()))
    }

    fn key(value: &str) -> Option<String> {
        reads(&[value]).ok().flatten()
    }

    #[test]
    fn quoted_and_bare_are_one_key() {
        for (value, expected) in [
            ("8e03978e", "8e03978e"),
            ("\"8e03978e\"", "8e03978e"),
            (" \"8e03978e\" ", "8e03978e"),
            ("\"8e03978e\";v=1", "8e03978e"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("a\"b", "a\"b"),
            ("7", "7"),
        ] {
            assert_eq!(key(value).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn length_counts_without_the_quotes() {
        let longest = "k".repeat(255);
        assert_eq!(key(&longest), Some(longest.clone()));
        assert_eq!(key(&format!("\"{longest}\"")), Some(longest.clone()));
        assert_eq!(key(&format!("{longest}k")), None);
        let escaped = format!("\"{}\"", "\\\\".repeat(255));
        assert_eq!(key(&escaped), Some("\\".repeat(255)));
    }

    #[test]
    fn what_is_no_key_is_refused_and_an_absent_one_is_none() {
        assert_eq!(reads(&[]), Ok(None));
        for value in [
            "",
            "\"\"",
            "\"open",
            "\"a\"b",
            r#""a\b""#,
            "\"",
            "schlüssel",
            "\"schlüssel\"",
            "a\tb",
            "\"a\", \"b\"",
            "\"a\";",
        ] {
            assert_eq!(reads(&[value]), Err(KeyRefusal::Invalid), "{value:?}");
        }
        assert_eq!(reads(&["one", "two"]), Err(KeyRefusal::Invalid));
        assert_eq!(reads(&["one", "one"]), Err(KeyRefusal::Invalid));
    }

    #[test]
    fn rules_that_no_key_can_keep_do_not_build() {
        for (shortest, longest) in [(0, 9), (9, 8), (1, 256)] {
            assert!(KeyRule::new(shortest, longest).is_err());
        }
        let rule = KeyRule::new(8, 36).unwrap();
        let headers =
            |key| HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static(key))]);
        assert!(rule.read(&headers("1234567")).is_err());
        assert!(rule.read(&headers("12345678")).is_ok());
        assert_eq!(rule.require(&HeaderMap::new()), Err(KeyRefusal::Missing));
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic_and_what_it_reads_keeps_the_rule(
            value in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, value)]);
            if let Ok(read) = KeyRule::default().read(&headers) {
                let read = read.expect("there is a header");
                prop_assert!((1..=255).contains(&read.as_bytes().len()));
                prop_assert!(read.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~')));
            }
        }

        #[test]
        fn every_key_is_the_same_quoted_and_bare(key in "[!#-~]([ -~]{0,60}[!-~])?") {
            let quoted = key.replace('\\', r"\\").replace('"', "\\\"");
            prop_assert_eq!(reads(&[&key]), Ok(Some(key.clone())));
            prop_assert_eq!(reads(&[&format!("\"{quoted}\"")]), Ok(Some(key)));
        }
    }
}
