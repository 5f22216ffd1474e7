//! A message as a consumer gets it, whatever broker it came from.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::SystemTime,
};

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::{
    Delivery, Message, MessageBuilder, MessageError,
    publisher::attributes::{BINARY_KEY, KEY, SEQUENCE, TOPIC},
};

/// A message that came from a broker: an event of [CloudEvents
/// 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) in binary mode, from an
/// outbox or from somebody else.
///
/// It may come again: give its [`inbox_id`](Self::inbox_id) to
/// [`Inbox::take_in`](crate::Inbox::take_in), first in the transaction in which you act on it.
///
/// `Debug` shows neither data nor key nor headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) content_type: Option<String>,
    pub(crate) data: Bytes,
    /// Which time it comes, as far as is known.
    pub(crate) attempt: u32,
    pub(crate) again: bool,
    /// The subject, routing key or stream that it came under.
    pub(crate) from: String,
}

impl Received {
    /// The message, if it has what CloudEvents 1.0 asks of one: its version, and an id, a source and
    /// a type, not empty.
    pub(crate) fn checked(self) -> Option<Self> {
        let has = |name| self.attributes.get(name).is_some_and(|it| !it.is_empty());
        let is_event = self.attribute("specversion") == "1.0";
        (is_event && has("id") && has("source") && has("type")).then_some(self)
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// CloudEvents' `id`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.attribute("id")
    }

    /// CloudEvents' `source`.
    #[must_use]
    pub fn source(&self) -> &str {
        self.attribute("source")
    }

    /// CloudEvents' `type`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.attribute("type")
    }

    /// What an inbox knows it by: source and id, which together are unique, on two lines; or a digest
    /// of them, where they would not fit into an inbox or into lines.
    #[must_use]
    pub fn inbox_id(&self) -> String {
        let (source, id) = (self.source(), self.id());
        let whole = format!("{source}\n{id}");
        let plain = !source.contains('\n') && !id.contains('\n');
        if plain && whole.len() <= buttress_store::Key::LONGEST {
            return whole;
        }
        // The length of the first says where the second begins.
        let digest = Sha256::new()
            .chain_update(source.len().to_be_bytes())
            .chain_update(&whole)
            .finalize();
        digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The topic that it was appended to; of an event that no outbox published, the subject, routing
    /// key or stream's topic that it came under.
    #[must_use]
    pub fn topic(&self) -> &str {
        match self.attribute(TOPIC) {
            "" => &self.from,
            topic => topic,
        }
    }

    /// The ordering key's bytes.
    #[must_use]
    pub fn key(&self) -> Option<Vec<u8>> {
        let bytes = self.attributes.get(BINARY_KEY).and_then(|it| from_hex(it));
        bytes.or_else(|| Some(self.attributes.get(KEY)?.clone().into_bytes()))
    }

    /// The place in the outbox: of one key, a later message has a higher one. 0 where none is said.
    #[must_use]
    pub fn sequence(&self) -> i64 {
        self.attribute(SEQUENCE).parse().unwrap_or_default()
    }

    /// All attributes, by their names in CloudEvents, those of an outbox among them: `sequence`,
    /// `partitionkey` (the ordering key; one that is no text with `%` and two digits for each
    /// byte that is no letter, digit, `-` or `_`, and then in `buttresskey` in hexadecimal digits),
    /// `buttresstopic`.
    #[must_use]
    pub const fn attributes(&self) -> &BTreeMap<String, String> {
        &self.attributes
    }

    /// The message's own headers.
    #[must_use]
    pub const fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    /// CloudEvents' `datacontenttype`.
    #[must_use]
    pub fn data_content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The payload.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.data
    }

    /// Which time it comes, from 1, by what the broker has counted (NATS, Redis, quorum queues of
    /// RabbitMQ) or else this process: crashes are counted, and so may times be at which another
    /// message failed that was fetched with it.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the broker knows that it was given to somebody before. It says nothing about whether
    /// it was handled: only an inbox does.
    #[must_use]
    pub const fn may_have_come_before(&self) -> bool {
        self.again
    }

    /// It as a message of an outbox, for a [`Publisher`](crate::Publisher): with the id that it was
    /// appended with, and attributes that an outbox does not know left out.
    ///
    /// # Errors
    ///
    /// When an outbox could not have appended it: an id that is too long, say.
    pub fn delivery(&self) -> Result<Delivery, MessageError> {
        let time = self.attributes.get("time");
        let time: Option<SystemTime> = match time {
            None => None,
            Some(time) => {
                let time: Timestamp = time.parse().map_err(|_| MessageError::Field {
                    field: "time",
                    rule: "a timestamp of RFC 3339",
                })?;
                Some(time.into())
            }
        };
        let (topic, source, event_type) = (self.topic(), self.source(), self.event_type());
        let mut builder = Message::builder(topic, source, event_type)
            .id(self.id())
            .payload(self.data.clone());
        if let Some(key) = self.key() {
            builder = builder.key(key);
        }
        if let Some(time) = time {
            builder = builder.time(time);
        }
        if let Some(content_type) = &self.content_type {
            builder = builder.data_content_type(content_type);
        }
        let some: [(&str, Set); 4] = [
            ("subject", |builder, it| builder.subject(it)),
            ("dataschema", |builder, it| builder.data_schema(it)),
            ("traceparent", |builder, it| builder.traceparent(it)),
            ("tracestate", |builder, it| builder.tracestate(it)),
        ];
        for (name, set) in some {
            if let Some(value) = self.attributes.get(name) {
                builder = set(builder, value);
            }
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        let said = time.unwrap_or(SystemTime::UNIX_EPOCH);
        let (sequence, attempt) = (self.sequence(), self.attempt);
        Ok(Delivery::new(builder.build()?, sequence, attempt, said))
    }
}

/// Sets an attribute.
type Set = fn(MessageBuilder, &str) -> MessageBuilder;

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("id", &self.id())
            .field("type", &self.event_type())
            .field("data_bytes", &self.data.len())
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(source: &str, id: &str) -> Received {
        let attributes = [
            ("specversion", "1.0"),
            ("source", source),
            ("id", id),
            ("type", "t"),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Received {
            attributes: attributes.into(),
            headers: BTreeMap::new(),
            content_type: None,
            data: Bytes::from_static(b"secret"),
            attempt: 1,
            again: false,
            from: "orders".to_owned(),
        }
    }

    #[test]
    fn no_two_messages_have_the_same_id_in_an_inbox() {
        let long = "a".repeat(300);
        let ids: std::collections::BTreeSet<_> = [
            ("/shop", "1"),
            ("/shop", "2"),
            ("/shop\n1", "2"),
            ("/shop", "1\n2"),
            (&long, "1"),
            (&long[..299], "a1"),
            (&long[..299], "a\n1"),
        ]
        .map(|(source, id)| received(source, id).inbox_id())
        .into();
        assert_eq!(ids.len(), 7, "{ids:?}");
        assert!(ids.contains("/shop\n1"));
        assert!(ids.iter().all(|id| (1..=255).contains(&id.len())));
    }

    #[test]
    fn what_is_no_event_is_not_taken_for_one() {
        assert!(received("/shop", "1").checked().is_some());
        assert!(received("", "1").checked().is_none());
        assert!(received("/shop", "").checked().is_none());
        let mut other = received("/shop", "1");
        other.attributes.insert("specversion".into(), "0.3".into());
        assert!(other.checked().is_none());
        assert!(!format!("{:?}", received("/shop", "1")).contains("secret"));
    }

    #[test]
    fn what_an_outbox_could_not_have_appended_is_no_delivery() {
        let sound = received("/shop", "1");
        let delivery = sound.delivery().unwrap();
        assert_eq!(delivery.message().topic().as_str(), "orders");
        assert_eq!((delivery.sequence(), delivery.attempt()), (0, 1));
        let with = |name: &str, value: &str| {
            let mut received = sound.clone();
            received.attributes.insert(name.into(), value.into());
            received.delivery()
        };
        assert!(with("extension", "\r\n").is_ok(), "it is left out");
        for (name, value) in [
            ("id", &*"1".repeat(256)),
            ("source", "\0"),
            ("subject", ""),
            ("time", "soon"),
            ("traceparent", "00"),
            (TOPIC, "a b"),
            (KEY, ""),
        ] {
            assert!(with(name, value).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn a_key_is_read_from_its_bytes_where_they_are_given() {
        let with = |pairs: &[(&str, &str)]| {
            let mut received = received("/shop", "1");
            for (name, value) in pairs {
                received.attributes.insert((*name).into(), (*value).into());
            }
            received.key()
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[(KEY, "%FF")]), Some(b"%FF".to_vec()));
        assert_eq!(
            with(&[(KEY, "%FF"), (BINARY_KEY, "ff00")]),
            Some(vec![255, 0])
        );
        for strange in ["f", "fff", "xx", "é"] {
            assert_eq!(
                with(&[(KEY, "a"), (BINARY_KEY, strange)]),
                Some(b"a".to_vec())
            );
        }
    }
}
