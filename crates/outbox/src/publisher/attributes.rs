//! A message's attributes by their names in CloudEvents, as brokers carry them beside the data.

use std::{borrow::Cow, fmt::Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::time::rfc3339;
use crate::Delivery;

/// All but letters, digits, `-` and `_`: nothing that a broker takes for a separator or a wildcard.
const WORD: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The ordering key: the extension of that name. One that is no text is [a word](word), and its bytes
/// are beside it.
pub(crate) const KEY: &str = "partitionkey";
/// A key that is no text, in hexadecimal digits.
pub(crate) const BINARY_KEY: &str = "buttresskey";
/// The place in the outbox, as text that sorts as numbers do: the extension of that name.
pub(crate) const SEQUENCE: &str = "sequence";
/// The topic.
pub(crate) const TOPIC: &str = "buttresstopic";

/// All that is there but the data's content type, by CloudEvents' names.
pub(super) fn of(delivery: &Delivery) -> Vec<(&'static str, Cow<'_, str>)> {
    let message = delivery.message();
    // When it happened, or else when it was said, which does not change either.
    let time = rfc3339(message.time().unwrap_or_else(|| delivery.created_at()));
    let (key, bytes) = match message.key() {
        None => (None, None),
        Some(key) => match std::str::from_utf8(key) {
            Ok(text) if !text.chars().any(char::is_control) => (Some(Cow::Borrowed(text)), None),
            _ => (Some(word(key).into()), Some(in_hex(key).into())),
        },
    };
    let some = Some::<Cow<'_, str>>;
    [
        ("specversion", some("1.0".into())),
        ("id", some(message.id().into())),
        ("source", some(message.source().into())),
        ("type", some(message.event_type().into())),
        ("subject", message.subject().map(Cow::Borrowed)),
        ("time", time.map(Cow::Owned)),
        ("dataschema", message.data_schema().map(Cow::Borrowed)),
        ("traceparent", message.traceparent().map(Cow::Borrowed)),
        ("tracestate", message.tracestate().map(Cow::Borrowed)),
        (KEY, key),
        (BINARY_KEY, bytes),
        (SEQUENCE, some(sequence(delivery).into())),
        (TOPIC, some(message.topic().as_str().into())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// The place in the outbox, padded so that text sorts as numbers do.
pub(super) fn sequence(delivery: &Delivery) -> String {
    format!("{:020}", delivery.sequence())
}

fn in_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A String takes all that is written to it.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// One word of a routing key or a name, whatever bytes it is made of: letters, digits, `-` and `_`
/// stay, any other byte becomes `%` and two digits. So a key of `a.#` adds no word and is no
/// wildcard. It is at most three times as long.
#[must_use]
pub fn word(bytes: impl AsRef<[u8]>) -> String {
    percent_encode(bytes.as_ref(), WORD).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::Message;

    #[test]
    fn whatever_is_made_a_word_is_one_and_stays_itself() {
        for (bytes, expected) in [
            (&b"order-7_a"[..], "order-7_a"),
            (b"a.b", "a%2Eb"),
            (b"#", "%23"),
            (b"*.>", "%2A%2E%3E"),
            (b"a%2Eb", "a%252Eb"),
            (b"\0\xff\r\n", "%00%FF%0D%0A"),
            ("ä".as_bytes(), "%C3%A4"),
        ] {
            assert_eq!(word(bytes), expected);
        }
    }

    #[test]
    fn attributes_have_their_names_of_cloud_events() {
        let message = Message::builder("orders", "/shop", "order.placed");
        let message = message.id("m-1").key([0xff]).subject("apple");
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000);
        let delivery = Delivery::new(message.build().unwrap(), 7, 1, created_at);
        let found: Vec<_> = of(&delivery);
        let expected = [
            ("specversion", "1.0"),
            ("id", "m-1"),
            ("source", "/shop"),
            ("type", "order.placed"),
            ("subject", "apple"),
            ("time", "1970-01-01T00:00:01.5Z"),
            ("partitionkey", "%FF"),
            ("buttresskey", "ff"),
            ("sequence", "00000000000000000007"),
            ("buttresstopic", "orders"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name, value.into())));
    }

    proptest! {
        /// No separator, wildcard or line end of any broker is in a word, and two keys are never
        /// one.
        #[test]
        fn a_word_injects_nothing(
            one in proptest::collection::vec(any::<u8>(), 0..300),
            other in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_%".contains(&byte);
            prop_assert!(word(&one).bytes().all(plain));
            prop_assert_eq!(one == other, word(&one) == word(&other));
        }
    }
}
