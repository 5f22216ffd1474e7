//! A message as headers and a payload, in the binary mode of CloudEvents' NATS binding; and read
//! again.

use std::{collections::BTreeMap, str::FromStr as _};

use async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID},
};
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::{Delivery, Message, consumer::Received, publisher::attributes};

/// What is encoded in a value, beside what is not ASCII: as in CloudEvents' HTTP binding.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// What stands before an attribute's name.
const PREFIX: &str = "ce-";
const CONTENT_TYPE: &str = "datacontenttype";

/// A message that the headers cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header of the message cannot be one in NATS")]
pub(super) struct Unfit;

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
    for (name, value) in attributes::of(delivery) {
        insert(&format!("{PREFIX}{name}"), &encoded(&value))?;
    }
    if let Some(content_type) = message.data_content_type() {
        insert(&format!("{PREFIX}{CONTENT_TYPE}"), &encoded(content_type))?;
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
    let ours = ["content-type", "traceparent", "tracestate"];
    !ours.contains(&name) && !name.starts_with(PREFIX) && !name.starts_with("nats-")
}

/// A message as it came, which time it comes with it. `None` for what is no event.
pub(crate) fn read(
    subject: &str,
    headers: Option<&HeaderMap>,
    data: Bytes,
    attempt: u32,
) -> Option<Received> {
    let mut attributes = BTreeMap::new();
    let mut others = BTreeMap::new();
    for (name, values) in headers?.iter() {
        let name = AsRef::<str>::as_ref(name).to_ascii_lowercase();
        let value = match values.as_slice() {
            [value] => percent_decode_str(value.as_str()).decode_utf8().ok(),
            // Which of them is meant?
            _ => None,
        };
        match (name.strip_prefix(PREFIX), value) {
            (Some(attribute), value) => {
                let before = attributes.insert(attribute.to_owned(), value?.into_owned());
                if before.is_some() {
                    return None;
                }
            }
            (None, Some(value)) => {
                others.insert(name, value.into_owned());
            }
            // Somebody else's, and no attribute: the event is one without it.
            (None, None) => {}
        }
    }
    for name in ["traceparent", "tracestate"] {
        if let Some(value) = others.remove(name) {
            attributes.entry(name.to_owned()).or_insert(value);
        }
    }
    let plain = others.remove("content-type");
    others.retain(|name, _| may_be_a_messages(name));
    let received = Received {
        content_type: attributes.remove(CONTENT_TYPE).or(plain),
        attributes,
        headers: others,
        data,
        attempt,
        again: attempt > 1,
        from: subject.to_owned(),
    };
    received.checked()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::MessageBuilder;

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
            ("ce-buttresstopic", "orders"),
            ("ce-datacontenttype", "text/plain;%20charset=utf-8"),
            ("ce-dataschema", "x:y"),
            ("ce-id", "m-1"),
            ("ce-partitionkey", "7%20a"),
            ("ce-sequence", "00000000000000000001"),
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
            "ce-buttresstopic",
            "ce-buttresskey",
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
        assert_eq!(names, ["Nats-Expected-Stream", "Nats-Msg-Id"]);
        assert_eq!(pairs["ce-id"], "m-1");
        assert_eq!(pairs["ce-buttresstopic"], "orders");
        assert!(!pairs.contains_key("ce-buttresskey"));
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
    fn what_is_no_event_is_not_read() {
        let (_, whole) = rendered(base());
        let of = |headers: Option<&HeaderMap>| read("orders", headers, "".into(), 1);
        assert!(of(Some(&whole)).is_some());
        assert!(of(None).is_none());
        assert!(of(Some(&HeaderMap::new())).is_none());
        for (name, value) in [
            ("ce-specversion", "0.3"),
            ("ce-id", ""),
            ("ce-type", ""),
            ("ce-source", ""),
            ("ce-subject", "%ff"),
        ] {
            let mut headers = whole.clone();
            headers.insert(name, value);
            assert!(of(Some(&headers)).is_none(), "{name}: {value}");
        }
        let mut twice = whole.clone();
        twice.append("ce-id", "m-2");
        assert!(of(Some(&twice)).is_none());
    }

    #[test]
    fn a_header_that_cannot_be_read_costs_the_event_that_header_and_an_attribute_the_event() {
        let (_, whole) = rendered(base().header("x-tenant", "7"));
        let mut strange = whole.clone();
        strange.insert("x-latin", "100%ff");
        strange.append("x-hop", "one");
        strange.append("x-hop", "two");
        strange.append("traceparent", TRACE);
        strange.append("traceparent", TRACE);
        let received = read("orders", Some(&strange), "".into(), 1).unwrap();
        let headers: Vec<_> = received.headers().iter().collect();
        assert_eq!(headers, [(&"x-tenant".to_owned(), &"7".to_owned())]);
        assert!(!received.attributes().contains_key("traceparent"));
        // Two that are one, but for their letters.
        let mut twice = whole;
        twice.insert("CE-ID", "m-2");
        assert!(read("orders", Some(&twice), "".into(), 1).is_none());
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
            ("traceparent", TRACE),
            ("Nats-Msg-Id", "1"),
        ] {
            headers.insert(name, value);
        }
        let received = read("shop.orders", Some(&headers), "x".into(), 2).unwrap();
        assert_eq!(received.topic(), "shop.orders");
        assert_eq!(received.data_content_type(), Some("text/plain"));
        assert_eq!(received.id(), "1");
        assert_eq!(received.attributes()["traceparent"], TRACE);
        assert!(received.headers().is_empty());
        assert!(received.key().is_none());
        assert!(received.may_have_come_before());
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
            let again = read("any", Some(&headers), payload.into(), 1).unwrap();
            let delivery = again.delivery().unwrap();
            prop_assert_eq!(delivery.message(), &message);
            prop_assert_eq!(delivery.sequence(), 1);
        }
    }
}
