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

    /// Reads a path as `Display` writes it, `items[0].quantity`. What is written in no such way is
    /// one key.
    #[must_use]
    pub fn from_dotted(dotted: &str) -> Self {
        let path = if dotted == "$" {
            Some(Self::root())
        } else {
            steps(dotted).map(|steps| Self { steps })
        };
        path.unwrap_or_else(|| Self::root().key(dotted))
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

/// The steps of a path that is written as `Display` writes it.
fn steps(dotted: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = dotted;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (step, after) = in_brackets(inside)?;
            steps.push(step);
            rest = after;
        } else {
            let rest_of_key = match rest.strip_prefix('.') {
                Some(after_dot) if !steps.is_empty() => after_dot,
                None if steps.is_empty() => rest,
                _ => return None,
            };
            let end = rest_of_key.find(['.', '[']).unwrap_or(rest_of_key.len());
            let (key, after) = rest_of_key.split_at(end);
            steps.push(Step::Key(Some(key).filter(|key| is_plain(key))?.to_owned()));
            rest = after;
        }
    }
    (!steps.is_empty()).then_some(steps)
}

/// An index or a quoted key, and what comes after the bracket that ends it.
fn in_brackets(inside: &str) -> Option<(Step, &str)> {
    let (step, end) = if inside.starts_with('"') {
        let mut texts = serde_json::Deserializer::from_str(inside).into_iter::<String>();
        let key = texts.next()?.ok()?;
        (Step::Key(key), texts.byte_offset())
    } else {
        let end = inside.find(']')?;
        let digits = Some(&inside[..end]).filter(|it| it.bytes().all(|it| it.is_ascii_digit()));
        (Step::Index(digits?.parse().ok()?), end)
    };
    Some((step, inside.get(end..)?.strip_prefix(']')?))
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

    #[test]
    fn what_is_written_in_no_such_way_is_one_key() {
        for dotted in [
            "",
            ".",
            ".a",
            "a.",
            "a..b",
            "a b",
            "[",
            "[]",
            "[x]",
            "[-1]",
            "[+1]",
            "[\"a]",
            "[\"a\"",
            "[1]a",
            "a[1",
            "$.a",
            "[99999999999999999999999]",
            "a]b",
        ] {
            let path = FieldPath::from_dotted(dotted);
            assert_eq!(path, FieldPath::root().key(dotted), "{dotted}");
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            "([a-z0-9_ .$\\[\\]\"\\\\]|\u{e4}){0,4}".prop_map(Step::Key),
            any::<usize>().prop_map(Step::Index),
        ]
    }

    proptest! {
        #[test]
        fn every_dotted_path_comes_back_as_it_was(steps in prop::collection::vec(step(), 0..5)) {
            let path = FieldPath { steps };
            prop_assert_eq!(FieldPath::from_dotted(&path.to_string()), path);
        }

        #[test]
        fn no_dotted_path_makes_it_panic(dotted in ".*") {
            let _ = FieldPath::from_dotted(&dotted);
        }

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
