//! Where in a JSON document a field stands.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a URI fragment cannot hold as it is (RFC 3986, section 3.5), `%` included.
const NOT_IN_FRAGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The place of a value in a JSON document.
///
/// ```
/// use buttress_error_envelope::FieldPath;
///
/// let path = FieldPath::root().key("items").index(0).key("quantity");
/// assert_eq!(path.to_string(), "items[0].quantity");
/// assert_eq!(path.to_pointer(), "/items/0/quantity");
/// assert_eq!(path, FieldPath::from_pointer("/items/0/quantity"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    Index(usize),
}

impl FieldPath {
    /// The whole document.
    #[must_use]
    pub const fn root() -> Self {
        Self { steps: Vec::new() }
    }

    /// The member `key` of the object at this place.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.steps.push(Step::Key(key.into()));
        self
    }

    /// The element `index` of the array at this place, counted from 0.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.steps.push(Step::Index(index));
        self
    }

    /// Reads a JSON Pointer (RFC 6901, section 3); a leading `/` may be missing. A pointer does not
    /// say whether a number is a key or an index: one without leading zeros is taken for an index.
    #[must_use]
    pub fn from_pointer(pointer: &str) -> Self {
        if pointer.is_empty() {
            return Self::root();
        }
        let tokens = pointer.strip_prefix('/').unwrap_or(pointer).split('/');
        let steps = tokens.map(|token| {
            let is_index = token == "0" || !token.starts_with(['0', '+']);
            match token.parse() {
                Ok(index) if is_index => Step::Index(index),
                _ => Step::Key(token.replace("~1", "/").replace("~0", "~")),
            }
        });
        Self {
            steps: steps.collect(),
        }
    }

    /// The JSON Pointer (RFC 6901, section 3).
    #[must_use]
    pub fn to_pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.steps {
            pointer.push('/');
            match step {
                Step::Key(key) => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    /// The pointer as a URI fragment (RFC 6901, section 6), as RFC 9457 shows it.
    pub(crate) fn to_fragment(&self) -> String {
        format!(
            "#{}",
            utf8_percent_encode(&self.to_pointer(), NOT_IN_FRAGMENT)
        )
    }
}

/// `items[0].quantity`; the whole document is `$`, and a key with more in it than letters, digits,
/// `_` and `-` is quoted: `prices["a.b"]`.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return f.write_str("$");
        }
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if is_plain(key) => {
                    let dot = if at > 0 { "." } else { "" };
                    write!(f, "{dot}{key}")?;
                }
                Step::Key(key) => write!(f, "[{}]", serde_json::Value::from(key.as_str()))?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    !key.is_empty() && key.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_6901_section_6_are_written_as_there() {
        for (pointer, fragment) in [
            ("", "#"),
            ("/foo", "#/foo"),
            ("/foo/0", "#/foo/0"),
            ("/", "#/"),
            ("/a~1b", "#/a~1b"),
            ("/c%d", "#/c%25d"),
            ("/e^f", "#/e%5Ef"),
            ("/g|h", "#/g%7Ch"),
            ("/i\\j", "#/i%5Cj"),
            ("/k\"l", "#/k%22l"),
            ("/ ", "#/%20"),
            ("/m~0n", "#/m~0n"),
        ] {
            assert_eq!(FieldPath::from_pointer(pointer).to_fragment(), fragment);
        }
    }

    #[test]
    fn two_places_never_have_one_dotted_path() {
        let root = FieldPath::root;
        for (path, dotted) in [
            (root(), "$"),
            (root().index(3).key("a"), "[3].a"),
            (root().key("a.b"), "[\"a.b\"]"),
            (root().key("a").key("b"), "a.b"),
            (root().key("a[0]"), "[\"a[0]\"]"),
            (root().key("$"), "[\"$\"]"),
            (root().key(""), "[\"\"]"),
            (root().key("größe").key("x-y_z"), "größe.x-y_z"),
        ] {
            assert_eq!(path.to_string(), dotted);
        }
    }

    #[test]
    fn a_number_with_leading_zeros_or_a_sign_is_a_key() {
        for pointer in [
            "/00",
            "/01",
            "/+1",
            "/-1",
            "/1.0",
            "/99999999999999999999999",
        ] {
            let path = FieldPath::from_pointer(pointer);
            assert!(matches!(path.steps[..], [Step::Key(_)]), "{pointer}");
        }
    }

    proptest! {
        #[test]
        fn every_pointer_comes_back_as_it_was(
            tokens in prop::collection::vec("([a-z/~.\\[\"]|[0-9]){0,5}", 0..5),
        ) {
            let mut path = FieldPath::root();
            for token in tokens {
                path = path.key(token);
            }
            let pointer = path.to_pointer();
            prop_assert_eq!(FieldPath::from_pointer(&pointer).to_pointer(), pointer);
        }
    }
}
