//! A message as AMQP carries it, and back: CloudEvents 1.0.2, AMQP protocol binding, binary mode,
//! whose application properties are headers in AMQP 0-9-1.

use std::{collections::BTreeMap, time::SystemTime};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{Delivery, consumer::Received, publisher::attributes};

/// Persistent, so that it survives the broker's restart in a durable queue.
const PERSISTENT: u8 = 2;
/// What stands before an attribute's name. The binding has both; the first is preferred by it.
const PREFIXES: [&str; 2] = ["cloudEvents_", "cloudEvents:"];
/// Where a quorum queue says how often it has given a message out.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// By which a returned message is known again.
pub(super) const SEQUENCE: &str = "cloudEvents_sequence";

/// A message that does not fit AMQP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an attribute or a header's name of the message is longer than the 255 bytes of AMQP")]
pub(super) struct Unfit;

/// The properties of a message; the same one always has the same.
pub(super) fn properties(delivery: &Delivery) -> Result<BasicProperties, Unfit> {
    let message = delivery.message();
    let mut headers = FieldTable::default();
    for (name, value) in message.headers() {
        if may_be_a_messages(name) {
            headers.insert(short(name)?, long(value));
        }
    }
    for (name, value) in attributes::of(delivery) {
        let name = short(&format!("{}{name}", PREFIXES[0]))?;
        headers.insert(name, long(&value));
    }
    let time = message.time().unwrap_or_else(|| delivery.created_at());
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH);
    let mut properties = BasicProperties::default()
        .with_headers(headers)
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(message.id())?)
        .with_type(short(message.event_type())?)
        .with_timestamp(seconds.map_or(0, |it| it.as_secs()));
    if let Some(content_type) = message.data_content_type() {
        properties = properties.with_content_type(short(content_type)?);
    }
    Ok(properties)
}

/// At most how many bytes the properties take on the wire. (They cannot be split over frames.)
pub(super) fn size(properties: &BasicProperties) -> usize {
    let headers = properties.headers().iter().flatten();
    headers.fold(0, |size, (name, value)| {
        let value = match value {
            AMQPValue::LongString(value) => value.len(),
            _ => 0,
        };
        // The lengths of both, and the value's type.
        size + name.as_str().len() + value + 6
    })
}

/// Whether a message may set it. Attributes are made here; where a message was, and where it goes
/// beside its routing key, the broker and its plugins say. (`CC` and `BCC`, by which a sender
/// routes, are in capitals, which no message's header has.)
fn may_be_a_messages(name: &str) -> bool {
    let theirs = [
        "cloudevents",
        "x-acquired-count",
        "x-death",
        "x-delivery-count",
        "x-delay",
        "x-first-death",
        "x-last-death",
        "x-match",
        "x-opt-",
        "x-received-from",
        "x-stream-",
    ];
    !theirs.iter().any(|start| name.starts_with(start))
}

/// A message as it came. `None` for what is no event.
pub(crate) fn read(delivery: &mut lapin::message::Delivery) -> Option<Received> {
    let properties = &delivery.properties;
    let mut attributes = BTreeMap::new();
    let mut headers = BTreeMap::new();
    // Only quorum queues count.
    let mut before = u32::from(delivery.redelivered);
    for (name, value) in properties.headers().iter().flatten() {
        if name.as_str() == DELIVERY_COUNT {
            before = before.max(count(value));
            continue;
        }
        let AMQPValue::LongString(value) = value else {
            continue;
        };
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            continue;
        };
        let name = name.as_str();
        let attribute = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
        match attribute {
            Some(attribute) => attributes.insert(attribute.to_owned(), value.to_owned()),
            None => headers.insert(name.to_owned(), value.to_owned()),
        };
    }
    let content_type = properties.content_type().as_ref();
    let received = Received {
        attributes,
        headers,
        content_type: content_type.map(|it| it.as_str().to_owned()),
        data: std::mem::take(&mut delivery.data).into(),
        attempt: before.saturating_add(1),
        again: before > 0,
        from: delivery.routing_key.as_str().to_owned(),
    };
    received.checked()
}

/// How often a quorum queue has given it out before.
fn count(value: &AMQPValue) -> u32 {
    let count = match value {
        AMQPValue::ShortShortInt(count) => (*count).into(),
        AMQPValue::ShortShortUInt(count) => (*count).into(),
        AMQPValue::ShortInt(count) => (*count).into(),
        AMQPValue::ShortUInt(count) => (*count).into(),
        AMQPValue::LongInt(count) => (*count).into(),
        AMQPValue::LongUInt(count) => (*count).into(),
        AMQPValue::LongLongInt(count) => *count,
        _ => 0,
    };
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

fn short(text: &str) -> Result<ShortString, Unfit> {
    ShortString::try_new(text).map_err(|_| Unfit)
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Message;

    fn sent_and_read(delivery: &Delivery) -> Option<Received> {
        let properties = properties(delivery).unwrap();
        let data = delivery.message().payload().to_vec();
        let mut received = lapin::message::Delivery::mock(1, "e".into(), "r".into(), true, data);
        received.properties = properties;
        read(&mut received)
    }

    #[test]
    fn what_is_sent_is_read_again_and_headers_route_nothing() {
        let mut builder = Message::builder("orders", "/shop", "order.placed")
            .id("m-1")
            .key("order 7")
            .subject("apple")
            .header("x-tenant", "ž\"7")
            .json(&7);
        for name in [
            "CC",
            "cloudEvents_id",
            "cloudEvents_type",
            "X-Death",
            "x-delay",
            "x-delivery-count",
        ] {
            builder = builder.header(name, "evil");
        }
        let message = builder.build().unwrap();
        let delivery = Delivery::new(message, 42, 1, SystemTime::UNIX_EPOCH);
        let properties = properties(&delivery).unwrap();
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "m-1");
        let headers = properties.headers().clone().unwrap();
        for name in ["CC", "BCC", "x-death", "x-delay", "x-delivery-count"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        let received = sent_and_read(&delivery).unwrap();
        assert_eq!(received.id(), "m-1");
        assert_eq!(received.source(), "/shop");
        assert_eq!(received.event_type(), "order.placed");
        assert_eq!(received.attributes()["subject"], "apple");
        assert_eq!(received.key().unwrap(), b"order 7");
        assert_eq!((received.sequence(), received.attempt()), (42, 2));
        assert_eq!(received.topic(), "orders");
        assert_eq!(received.headers()["x-tenant"], "ž\"7");
        assert_eq!(received.data_content_type(), Some("application/json"));
        assert_eq!(received.data(), "7");
        assert!(received.may_have_come_before());
    }

    #[test]
    fn the_longest_message_fits() {
        let longest = "a".repeat(255);
        let mut builder = Message::builder("t", "s".repeat(2048), &*longest)
            .id(&*longest)
            .key([0xff; 255])
            .data_content_type(&*longest);
        for number in 0..Message::MOST_HEADERS {
            let name = format!("{number:0>128}");
            builder = builder.header(name, "v".repeat(4096));
        }
        let message = builder.build().unwrap();
        let delivery = Delivery::new(message, i64::MAX, 1, SystemTime::UNIX_EPOCH);
        assert!(sent_and_read(&delivery).is_some());
    }

    #[test]
    fn what_is_no_event_is_not_read() {
        let mut strange = lapin::message::Delivery::mock(1, "e".into(), "r".into(), false, vec![1]);
        assert!(read(&mut strange).is_none());
    }

    proptest! {
        /// Whatever a message brings: its attributes are its own, nothing of it is read as one or
        /// as a word of the broker's, and it comes out as it went in.
        #[test]
        fn headers_and_keys_inject_nothing(
            key in proptest::collection::vec(any::<u8>(), 1..255),
            text in "[^\\p{C}]{1,60}",
            value in "[^\\p{C}]{0,60}",
            names in proptest::collection::vec(
                "(cc|Bcc|BCC|cloud[eE]vents[_:]?[iI]d|[xX]-(death|Delay|match|stream-offset|opt-a|own)|[a-zA-Z.*#>]{1,9})",
                0..6,
            ),
        ) {
            let mut builder = Message::builder("orders", &*text, "t").id("m-1").subject(&*text);
            for name in &names {
                builder = builder.header(name.replace([':', '>'], "_"), &*value);
            }
            let message = builder.key(&key).payload(key.clone()).build().unwrap();
            let delivery = Delivery::new(message, 42, 1, SystemTime::UNIX_EPOCH);
            let headers = properties(&delivery).unwrap().headers().clone().unwrap();
            for name in headers.inner().keys() {
                let name = name.as_str();
                let ours = name.strip_prefix("cloudEvents_");
                prop_assert!(ours.is_some() || name.chars().all(|it| !it.is_ascii_uppercase()));
                prop_assert!(ours.is_some() || may_be_a_messages(name), "{}", name);
            }
            let received = sent_and_read(&delivery).unwrap();
            prop_assert_eq!(received.id(), "m-1");
            prop_assert_eq!(received.source(), &*text);
            prop_assert_eq!(received.topic(), "orders");
            prop_assert_eq!(received.key(), Some(key.clone()));
            prop_assert_eq!(&received.data()[..], &key[..]);
            prop_assert!(received.headers().values().all(|it| *it == value));
        }
    }
}
