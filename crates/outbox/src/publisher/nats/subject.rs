//! The subject that a message is published under.

use std::fmt;

use buttress_store::Key;

use crate::{Message, PolicyError};

/// The most bytes of a subject. The server ends the connection over a line of more than 4096.
pub(super) const LONGEST: usize = 1024;
/// What stands for a key or a header that a message has not.
const ABSENT: &str = "_";

/// Which subject a message is published under: a template, checked when it is made.
///
/// It is tokens between full stops. The first is written out; each of the others is either, or one
/// of these, alone between its full stops:
///
/// | written | becomes |
/// | --- | --- |
/// | `{topic}` | the topic, whose full stops begin new tokens |
/// | `{type}` | CloudEvents' type, one token |
/// | `{key}` | the ordering key, one token; `_` for a message without one |
/// | `{header:x-tenant}` | that header, one token; `_` for a message without it |
///
/// What comes from a message cannot change the subject's shape: in a value that becomes one token,
/// every byte but `A-Z a-z 0-9 _ -` is written as `%` and two hexadecimal digits. So a key of `a.>`
/// is the token `a%2E%3E`, and no message gets into another one's branch.
///
/// ```
/// use buttress_outbox::publisher::nats::Subjects;
///
/// assert!(Subjects::new("shop.{header:x-tenant}.{topic}").is_ok());
/// assert!(Subjects::new("shop.*").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Topic,
    Type,
    Key,
    Header(Box<str>),
}

impl Subjects {
    /// A template of the form above.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], when it could make what is no subject: an empty token, a wildcard, a
    /// space, a placeholder beside something else, or a first token that is not written out or
    /// belongs to the server (`$…`, `_INBOX`).
    pub fn new(template: impl AsRef<str>) -> Result<Self, PolicyError> {
        let wrong = || {
            PolicyError::new(
                "subjects",
                "tokens of A-Z a-z 0-9 _ - between full stops, the first written out and not the \
                 server's, the others also {topic}, {type}, {key} or {header:name}",
            )
        };
        let tokens = template.as_ref().split('.');
        let parts: Option<Vec<Part>> = tokens.map(Part::parse).collect();
        let parts = parts.ok_or_else(wrong)?;
        let is_first = |part: &Part| matches!(part, Part::Literal(text) if &**text != "_INBOX");
        if template.as_ref().len() > LONGEST / 2 || !parts.first().is_some_and(is_first) {
            return Err(wrong());
        }
        Ok(Self { parts })
    }

    /// The subject of a message, or why it has none.
    pub(super) fn of(&self, message: &Message) -> Result<String, NoSubject> {
        self.render(message, |value| value.map_or(ABSENT.to_owned(), token))
    }

    /// All that messages of this one's topic can have, as a subject with wildcards.
    pub(super) fn all_like(&self, message: &Message) -> Result<String, NoSubject> {
        self.render(message, |_| "*".to_owned())
    }

    fn render(
        &self,
        message: &Message,
        token: impl Fn(Option<&[u8]>) -> String,
    ) -> Result<String, NoSubject> {
        let mut subject = String::new();
        for part in &self.parts {
            if !subject.is_empty() {
                subject.push('.');
            }
            match part {
                Part::Literal(text) => subject.push_str(text),
                Part::Topic => {
                    let topic = message.topic().as_str();
                    if topic.split('.').any(str::is_empty) {
                        return Err(NoSubject::Topic);
                    }
                    subject.push_str(topic);
                }
                Part::Type => subject.push_str(&token(Some(message.event_type().as_bytes()))),
                Part::Key => subject.push_str(&token(message.key().map(Key::as_bytes))),
                Part::Header(name) => {
                    let value = message.headers().get(&**name);
                    subject.push_str(&token(value.map(String::as_bytes)));
                }
            }
        }
        if subject.len() > LONGEST {
            return Err(NoSubject::TooLong);
        }
        Ok(subject)
    }
}

impl Part {
    fn parse(token: &str) -> Option<Self> {
        let placeholder = token.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
        match placeholder {
            Some("topic") => return Some(Self::Topic),
            Some("type") => return Some(Self::Type),
            Some("key") => return Some(Self::Key),
            Some(other) => {
                let name = other.strip_prefix("header:")?;
                let fits = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
                let fits = !name.is_empty() && name.bytes().all(fits);
                return fits.then(|| Self::Header(name.into()));
            }
            None => {}
        }
        let fits = !token.is_empty() && token.bytes().all(is_plain);
        fits.then(|| Self::Literal(token.into()))
    }
}

/// Why a message has no subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSubject {
    /// Its topic makes an empty token: so do all of the topic.
    Topic,
    /// What it brings makes it too long.
    TooLong,
}

impl fmt::Display for NoSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic => {
                f.write_str("the topic's full stops leave an empty token in the subject")
            }
            Self::TooLong => write!(f, "the subject is longer than {LONGEST} bytes"),
        }
    }
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// A value as one token; different values are different tokens.
fn token(value: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut token = String::with_capacity(value.len());
    // What stands for nothing must not be what something is called; nor is an empty token one.
    let alone = value == ABSENT.as_bytes();
    for &byte in value {
        if is_plain(byte) && !alone {
            token.push(char::from(byte));
        } else {
            token.push('%');
            token.push(char::from(HEX[usize::from(byte >> 4)]));
            token.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    if token.is_empty() {
        token.push('%');
    }
    token
}

/// Whether some subject fits both: each a subject, or one with the wildcards `*` and `>`.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(topic: &str, key: Option<&[u8]>, tenant: Option<&str>) -> Message {
        let mut builder = Message::builder(topic, "/shop", "order.placed");
        if let Some(key) = key {
            builder = builder.key(key);
        }
        if let Some(tenant) = tenant {
            builder = builder.header("x-tenant", tenant);
        }
        builder.build().unwrap()
    }

    #[test]
    fn a_template_that_could_make_no_subject_is_refused() {
        let long = "a".repeat(600);
        for template in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a.*",
            "a.>",
            ">",
            "*",
            "a b",
            "a\r\nPUB x",
            "a\t",
            "ä",
            "{topic}",
            "{key}.a",
            "$JS.API",
            "_INBOX.a",
            "a.{topic",
            "a.{}",
            "a.{nobody}",
            "a.x{key}",
            "a.{key}{type}",
            "a.{header:}",
            "a.{header:a b}",
            "a.{header:X}",
            &long,
        ] {
            assert!(Subjects::new(template).is_err(), "{template:?}");
        }
        for template in ["a", "a.b-c_D.9", "a.{topic}.{type}.{key}.{header:x-tenant}"] {
            assert!(Subjects::new(template).is_ok(), "{template:?}");
        }
    }

    #[test]
    fn what_comes_from_a_message_is_one_token_that_nobody_takes_for_another() {
        let subjects = Subjects::new("shop.{header:x-tenant}.{topic}.{type}.{key}").unwrap();
        for (key, tenant, expected) in [
            (None, None, "shop._.orders.order%2Eplaced._"),
            (Some("7"), Some("acme"), "shop.acme.orders.order%2Eplaced.7"),
            (Some("_"), Some("_"), "shop.%5F.orders.order%2Eplaced.%5F"),
            (Some("a.b"), Some(""), "shop.%.orders.order%2Eplaced.a%2Eb"),
            (Some(">"), Some("*"), "shop.%2A.orders.order%2Eplaced.%3E"),
            (
                Some("a b\r\nPUB x 0\r\n"),
                Some("é"),
                "shop.%C3%A9.orders.order%2Eplaced.a%20b%0D%0APUB%20x%200%0D%0A",
            ),
            (
                Some("%2E"),
                Some("$JS"),
                "shop.%24JS.orders.order%2Eplaced.%252E",
            ),
        ] {
            let message = message("orders", key.map(str::as_bytes), tenant);
            assert_eq!(subjects.of(&message).unwrap(), expected);
            let all = subjects.all_like(&message).unwrap();
            assert_eq!(all, "shop.*.orders.*.*");
            assert!(overlap(&all, expected));
        }
    }

    #[test]
    fn a_topics_full_stops_begin_tokens_and_leave_none_empty() {
        let subjects = Subjects::new("shop.{topic}").unwrap();
        let of = |topic| subjects.of(&message(topic, None, None));
        assert_eq!(of("orders.v1").unwrap(), "shop.orders.v1");
        for topic in [".", "a.", ".a", "a..b"] {
            assert_eq!(of(topic), Err(NoSubject::Topic), "{topic}");
        }
        let subjects = Subjects::new("shop.{key}.{header:x-tenant}").unwrap();
        let tenant = "ä".repeat(200);
        let long = message("orders", Some(&[0; 255]), Some(&tenant));
        assert_eq!(subjects.of(&long), Err(NoSubject::TooLong));
    }

    #[test]
    fn overlap_is_that_of_the_servers_wildcards() {
        for (one, other, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.b", "a", false),
            ("a.>", "a", false),
            ("a.>", "a.b.c", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("*.b", "a.*", true),
            (">", "a.b", true),
            ("a.*.c", "a.b.>", true),
            ("a.*.c", "b.*.c", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    proptest! {
        /// All that a message brings at once, as long as it may be: the subject has the template's
        /// shape, or there is none.
        #[test]
        fn whatever_a_message_brings_its_subject_has_the_templates_shape(
            key in proptest::collection::vec(any::<u8>(), 1..255),
            tenant in "[^\\p{C}]{0,300}",
            event_type in "[^\\p{C}]{1,60}",
        ) {
            let subjects = Subjects::new("a.{header:x-tenant}.{type}.{key}.z").unwrap();
            let message = Message::builder("t", "/shop", event_type).key(key);
            let message = message.header("x-tenant", tenant).build().unwrap();
            match subjects.of(&message) {
                Ok(subject) => {
                    prop_assert!(subject.len() <= LONGEST);
                    prop_assert_eq!(subject.split('.').count(), 5);
                    prop_assert!(subject.split('.').all(|token| !token.is_empty()));
                    prop_assert!(subject.bytes().all(|it| is_plain(it) || b".%".contains(&it)));
                }
                Err(error) => prop_assert_eq!(error, NoSubject::TooLong),
            }
        }

        #[test]
        fn subject_injection_is_impossible(
            one in proptest::collection::vec(any::<u8>(), 1..60),
            other in proptest::collection::vec(any::<u8>(), 1..60),
        ) {
            let subjects = Subjects::new("a.{key}.z").unwrap();
            let of = |key: &[u8]| subjects.of(&message("t", Some(key), None)).unwrap();
            let subject = of(&one);
            prop_assert_eq!(subject.split('.').count(), 3);
            prop_assert!(subject.bytes().all(|byte| is_plain(byte) || b".%".contains(&byte)));
            prop_assert_eq!(one == other, subject == of(&other));
        }
    }
}
