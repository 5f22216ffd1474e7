//! A message as headers and a payload, in the binary mode of CloudEvents' NATS binding; and read
//! again.

use std::{collections::BTreeMap, str::FromStr as _, time::SystemTime};

use async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID},
};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::{Delivery, Message, MessageBuilder};

/// What is encoded in a value, beside what is not ASCII: as in CloudEvents' HTTP binding.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// The topic, which CloudEvents has no attribute for.
const TOPIC: &str = "buttress-topic";
/// A key that is text: CloudEvents' extension for partitions.
const KEY: &str = "ce-partitionkey";
/// A key that is not.
const BINARY_KEY: &str = "buttress-key";

/// A message that the headers cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header of the message cannot be one in NATS")]
pub(super) struct Unfit;

/// Headers that are no message of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoMessage(&'static str);

/// The headers of a message; the same one always gives the same.
pub(super) fn headers(delivery: &Delivery, stream: &str) -> Result<HeaderMap, Unfit> {
    let message = delivery.message();
    let mut headers = HeaderMap::new();
    let mut insert = |name: &str, value: &str| {
        let name = HeaderName::from_str(name).map_err(|_| Unfit)?;
        let value = HeaderValue::from_str(value).map_err(|_| Unfit)?;
        headers.insert(name, value);
        Ok::<_, Unfit>(())
    };
    for (name, value) in message.headers() {
        if may_be_a_messages(name) {
            insert(name, &encoded(value))?;
        }
    }
    // When it happened, or else when it was said, which does not change either.
    let time = rfc3339(message.time().unwrap_or_else(|| delivery.created_at()));
    for (name, value) in [
        ("ce-specversion", Some("1.0")),
        ("ce-id", Some(message.id())),
        ("ce-source", Some(message.source())),
        ("ce-type", Some(message.event_type())),
        ("ce-subject", message.subject()),
        ("ce-time", time.as_deref()),
        ("ce-datacontenttype", message.data_content_type()),
        ("ce-dataschema", message.data_schema()),
        ("ce-traceparent", message.traceparent()),
        ("ce-tracestate", message.tracestate()),
        (TOPIC, Some(message.topic().as_str())),
    ] {
        if let Some(value) = value {
            insert(name, &encoded(value))?;
        }
    }
    // As they are, for who follows the trace and knows nothing of CloudEvents.
    for (name, value) in [
        ("traceparent", message.traceparent()),
        ("tracestate", message.tracestate()),
    ] {
        if let Some(value) = value.filter(|value| is_harmless(value)) {
            insert(name, value)?;
        }
    }
    if let Some(key) = message.key() {
        match std::str::from_utf8(key.as_bytes()) {
            Ok(text) if !text.chars().any(char::is_control) => insert(KEY, &encoded(text))?,
            _ => insert(BINARY_KEY, &in_hex(key.as_bytes()))?,
        }
    }
    headers.insert(NATS_MESSAGE_ID, &*dedup_id(message));
    headers.insert(NATS_EXPECTED_STREAM, stream);
    Ok(headers)
}

/// By what the stream knows that it has the message already. Its window is the whole stream's, and
/// an id is unique only with its source, in its topic: the id alone would have the stream swallow
/// another message.
fn dedup_id(message: &Message) -> String {
    let topic = message.topic();
    let source = encoded(message.source());
    format!("{topic} {source} {}", encoded(message.id()))
}

/// A value without what ends a header and what a parser trims; nor is the name of a header of the
/// server's in it, so that one that searches the block for it finds its own.
fn encoded(value: &str) -> String {
    let encoded = utf8_percent_encode(value, ENCODED).to_string();
    encoded.replace("Nats-", "%4Eats-")
}

fn is_harmless(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_graphic()) && !value.contains("Nats-")
}

/// Whether a header of this name, in small letters, may be a message's own: not one that the
/// server reads, nor one that is made here.
fn may_be_a_messages(name: &str) -> bool {
    let reserved = ["ce-", "nats-", "buttress-"];
    let ours = ["content-type", "traceparent", "tracestate"];
    !ours.contains(&name) && !reserved.iter().any(|prefix| name.starts_with(prefix))
}

/// The years 0 to 9999, which RFC 3339 can write.
fn rfc3339(time: SystemTime) -> Option<String> {
    let timestamp = Timestamp::try_from(time).ok()?;
    Some(timestamp.to_string()).filter(|text| !text.starts_with('-'))
}

fn in_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A String takes all that is written to it.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

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

/// The message that these headers and this payload are. A subject that can be a topic stands for
/// the topic of an event that no outbox published.
pub(crate) fn read(
    subject: &str,
    headers: Option<&HeaderMap>,
    payload: bytes::Bytes,
) -> Result<Message, NoMessage> {
    let no_event = NoMessage("it has no headers of a CloudEvent in binary mode");
    let mut fields = BTreeMap::new();
    for (name, values) in headers.ok_or(no_event)?.iter() {
        let (Some(value), [_]) = (values.first(), values.as_slice()) else {
            return Err(NoMessage("a header is there more than once"));
        };
        let name = AsRef::<str>::as_ref(name).to_ascii_lowercase();
        let value = percent_decode_str(value.as_str()).decode_utf8();
        let value = value.map_err(|_| NoMessage("a header is not UTF-8"))?;
        fields.insert(name, value.into_owned());
    }
    if fields.get("ce-specversion").map(String::as_str) != Some("1.0") {
        return Err(no_event);
    }
    let mut take = |name: &str| fields.remove(name);
    let topic = take(TOPIC).unwrap_or_else(|| subject.to_owned());
    let source = take("ce-source").unwrap_or_default();
    let event_type = take("ce-type").unwrap_or_default();
    let id = take("ce-id").filter(|id| !id.is_empty());
    let mut builder = Message::builder(topic, source, event_type)
        .id(id.ok_or(NoMessage("it has no id"))?)
        .payload(payload);
    if let Some(subject) = take("ce-subject") {
        builder = builder.subject(subject);
    }
    if let Some(time) = take("ce-time") {
        let time: Timestamp = time.parse().map_err(|_| NoMessage("its time is none"))?;
        builder = builder.time(time.into());
    }
    for name in ["ce-datacontenttype", "content-type"] {
        if let Some(content_type) = take(name) {
            builder = builder.data_content_type(content_type);
            break;
        }
    }
    if let Some(schema) = take("ce-dataschema") {
        builder = builder.data_schema(schema);
    }
    builder = traced(builder, &mut take);
    builder = match (take(KEY), take(BINARY_KEY)) {
        (Some(key), _) => builder.key(key),
        (None, Some(key)) => builder.key(from_hex(&key).ok_or(NoMessage("its key is none"))?),
        (None, None) => builder,
    };
    for (name, value) in fields {
        if may_be_a_messages(&name) {
            builder = builder.header(name, value);
        }
    }
    let what = NoMessage("an attribute of it is none that a message can have");
    builder.build().map_err(|_| what)
}

fn traced(
    builder: MessageBuilder,
    take: &mut impl FnMut(&str) -> Option<String>,
) -> MessageBuilder {
    let mut either = |ce: &str, plain: &str| {
        let (ce, plain) = (take(ce), take(plain));
        ce.or(plain)
    };
    let builder = match either("ce-traceparent", "traceparent") {
        Some(traceparent) => builder.traceparent(traceparent),
        None => builder,
    };
    match either("ce-tracestate", "tracestate") {
        Some(tracestate) => builder.tracestate(tracestate),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "00-12345678901234567890123456789012-1234567890123456-01";

    fn rendered(builder: MessageBuilder) -> (Message, HeaderMap) {
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000);
        let message = builder.build().unwrap();
        let delivery = Delivery::new(message.clone(), 1, 1, created_at);
        (message, headers(&delivery, "SHOP").unwrap())
    }

    fn base() -> MessageBuilder {
        Message::builder("orders", "/shop", "order.placed").id("m-1")
    }

    fn pairs(headers: &HeaderMap) -> BTreeMap<String, String> {
        let pair = |(name, values): (&HeaderName, &Vec<HeaderValue>)| {
            (name.to_string(), values[0].to_string())
        };
        headers.iter().map(pair).collect()
    }

    #[test]
    fn a_message_has_its_attributes_encoded_in_headers() {
        let builder = base()
            .key("7 a")
            .subject("Žluť \"100%\"")
            .data_content_type("text/plain; charset=utf-8")
            .data_schema("x:y")
            .traceparent(TRACE)
            .tracestate("a=1")
            .header("x-tenant", " ž ");
        let (_, headers) = rendered(builder);
        let expected = [
            ("Nats-Expected-Stream", "SHOP"),
            ("Nats-Msg-Id", "orders /shop m-1"),
            ("buttress-topic", "orders"),
            ("ce-datacontenttype", "text/plain;%20charset=utf-8"),
            ("ce-dataschema", "x:y"),
            ("ce-id", "m-1"),
            ("ce-partitionkey", "7%20a"),
            ("ce-source", "/shop"),
            ("ce-specversion", "1.0"),
            ("ce-subject", "%C5%BDlu%C5%A5%20%22100%25%22"),
            ("ce-time", "1970-01-01T00:00:01.5Z"),
            ("ce-traceparent", TRACE),
            ("ce-tracestate", "a=1"),
            ("ce-type", "order.placed"),
            ("traceparent", TRACE),
            ("tracestate", "a=1"),
            ("x-tenant", "%20%C5%BE%20"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs(&headers), BTreeMap::from(expected));
    }

    #[test]
    fn a_messages_headers_cannot_steer_the_server_or_speak_for_the_outbox() {
        let mut builder = base()
            .header("x-tenant", "7")
            .tracestate("Nats-Msg-Id:evil");
        for name in [
            "Nats-Msg-Id",
            "nats-rollup",
            "Nats-Expected-Last-Sequence",
            "nats-ttl",
            "ce-id",
            "Content-Type",
            "buttress-topic",
            "buttress-key",
            "traceparent",
        ] {
            builder = builder.header(name, "evil");
        }
        let (_, headers) = rendered(builder);
        let pairs = pairs(&headers);
        let ours = |(name, value): &(&String, &String)| {
            !name.starts_with("ce-") && !value.contains("evil") && name.as_str() != "x-tenant"
        };
        let names: Vec<_> = pairs.iter().filter(ours).map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["Nats-Expected-Stream", "Nats-Msg-Id", "buttress-topic"]
        );
        assert_eq!(pairs["ce-id"], "m-1");
        assert_eq!(pairs["ce-tracestate"], "%4Eats-Msg-Id:evil");
        assert!(!pairs.contains_key("tracestate"));
        assert_eq!(
            pairs
                .values()
                .filter(|value| value.contains("evil"))
                .count(),
            1
        );
    }

    #[test]
    fn messages_that_are_two_are_never_one_to_the_stream() {
        let id = |topic: &str, source: &str, id: &str| {
            let builder = Message::builder(topic, source, "t").id(id);
            pairs(&rendered(builder).1)["Nats-Msg-Id"].clone()
        };
        let ids = [
            id("a", "/s", "1"),
            id("b", "/s", "1"),
            id("a", "/t", "1"),
            id("a", "/s", " 1"),
            id("a", "/s 1", "1"),
            id("a", "/s", "1 1"),
            id("a", "/s%201", "1"),
        ];
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len(), "{ids:?}");
    }

    #[test]
    fn what_is_no_event_is_no_message() {
        let (_, whole) = rendered(base());
        let of = |headers: Option<&HeaderMap>| read("orders", headers, "".into());
        assert!(of(Some(&whole)).is_ok());
        assert!(of(None).is_err());
        assert!(of(Some(&HeaderMap::new())).is_err());
        for (name, value) in [
            ("ce-specversion", "0.3"),
            ("ce-id", ""),
            ("ce-type", ""),
            ("ce-source", "%00"),
            ("ce-time", "soon"),
            ("ce-subject", "%ff"),
            ("buttress-topic", "a%20b"),
            ("buttress-key", "abc"),
            ("traceparent", "00"),
        ] {
            let mut headers = whole.clone();
            headers.insert(name, value);
            assert!(of(Some(&headers)).is_err(), "{name}: {value}");
        }
        let mut twice = whole.clone();
        twice.append("ce-id", "m-2");
        assert!(of(Some(&twice)).is_err());
    }

    #[test]
    fn an_event_of_somebody_else_has_its_subject_for_a_topic() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Ce-Specversion", "1.0"),
            ("CE-ID", "1"),
            ("ce-source", "/else"),
            ("ce-type", "t"),
            ("Content-Type", "text/plain"),
        ] {
            headers.insert(name, value);
        }
        let message = read("shop.orders", Some(&headers), "x".into()).unwrap();
        assert_eq!(message.topic().as_str(), "shop.orders");
        assert_eq!(message.data_content_type(), Some("text/plain"));
        assert_eq!(message.id(), "1");
        assert!(message.key().is_none());
    }

    proptest! {
        #[test]
        fn every_message_can_be_carried_and_read_again(
            id in "[^\\p{C}]{1,40}",
            text in "[^\\p{C}]{1,40}",
            value in "[^\\p{C}]{0,40}",
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40)),
            payload in any::<Vec<u8>>(),
        ) {
            let mut builder = Message::builder("orders", &*text, &*text)
                .id(&*id)
                .subject(&*text)
                .data_content_type(&*text)
                .tracestate(&*text)
                .time(SystemTime::UNIX_EPOCH + Duration::from_micros(7))
                .header("x-note", &*value)
                .header("x-nats", format!("{value}Nats-Msg-Id:{value}"))
                .payload(payload.clone());
            if let Some(key) = &key {
                builder = builder.key(key);
            }
            let (message, headers) = rendered(builder);
            for (name, value) in pairs(&headers) {
                prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
                prop_assert_eq!(value.trim(), &value);
                prop_assert!(!value.contains("Nats-"), "{}: {}", name, value);
            }
            let again = read("any", Some(&headers), payload.into());
            prop_assert_eq!(again.unwrap(), message);
        }
    }
}
