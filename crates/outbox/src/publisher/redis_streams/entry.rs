//! A message as an entry of a stream, and back. CloudEvents has no binding for Redis: attributes
//! are fields of their names, a message's headers have `header:` before theirs.

use std::collections::BTreeMap;

use redis::{Cmd, Value};

use crate::{Delivery, consumer::Received, publisher::attributes};

const CONTENT_TYPE: &str = "datacontenttype";
const DATA: &str = "data";
const HEADER: &str = "header:";

/// Adds the fields of a message to a command.
pub(super) fn write(command: &mut Cmd, delivery: &Delivery) {
    let message = delivery.message();
    for (name, value) in attributes::of(delivery) {
        command.arg(name).arg(&*value);
    }
    if let Some(content_type) = message.data_content_type() {
        command.arg(CONTENT_TYPE).arg(content_type);
    }
    for (name, value) in message.headers() {
        command.arg(format!("{HEADER}{name}")).arg(value);
    }
    command.arg(DATA).arg(&message.payload()[..]);
}

/// An entry of a stream: its id and its fields, none if it was trimmed or deleted meanwhile.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: Vec<u8>,
    fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Entry {
    pub(crate) const fn is_gone(&self) -> bool {
        self.fields.is_none()
    }

    /// The message in it, of this topic, which comes the nth time. `None` for what is no event.
    pub(crate) fn read(&self, topic: &str, attempt: u32) -> Option<Received> {
        let mut attributes = BTreeMap::new();
        let mut headers = BTreeMap::new();
        let mut data = Vec::new();
        for (name, value) in self.fields.iter().flatten() {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            if name == DATA {
                data.clone_from(value);
                continue;
            }
            let Ok(value) = std::str::from_utf8(value) else {
                continue;
            };
            match name.strip_prefix(HEADER) {
                Some(header) => headers.insert(header.to_owned(), value.to_owned()),
                None => attributes.insert(name.to_owned(), value.to_owned()),
            };
        }
        let received = Received {
            content_type: attributes.remove(CONTENT_TYPE),
            attributes,
            headers,
            data: data.into(),
            attempt,
            again: attempt > 1,
            from: topic.to_owned(),
        };
        received.checked()
    }

    /// Its fields as they are, for a stream of what is put aside.
    pub(crate) fn write(&self, command: &mut Cmd) {
        for (name, value) in self.fields.iter().flatten() {
            command.arg(name).arg(value);
        }
    }
}

/// The entries of the one stream that was asked for. What others wrote into it may be anything, so
/// nothing is taken for text.
pub(crate) fn entries(answer: Value) -> Option<Vec<Entry>> {
    let stream = match answer {
        Value::Nil => return Some(Vec::new()),
        // RESP3, and RESP2.
        Value::Map(mut streams) => streams.pop()?.1,
        Value::Array(mut streams) => match streams.pop() {
            None => return Some(Vec::new()),
            Some(Value::Array(mut pair)) => pair.pop()?,
            Some(_) => return None,
        },
        _ => return None,
    };
    let Value::Array(entries) = stream else {
        return None;
    };
    entries.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [Value::BulkString(id), fields] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    let fields = match fields {
        Value::Nil => None,
        Value::Array(flat) => {
            let mut bytes = flat.into_iter().map(|value| match value {
                Value::BulkString(bytes) => Some(bytes),
                _ => None,
            });
            let mut fields = Vec::new();
            while let Some(name) = bytes.next() {
                fields.push((name?, bytes.next()??));
            }
            Some(fields)
        }
        _ => return None,
    };
    Some(Entry { id, fields })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;
    use redis::Arg;

    use super::*;
    use crate::Message;

    fn bulk(bytes: impl Into<Vec<u8>>) -> Value {
        Value::BulkString(bytes.into())
    }

    /// What Redis would give for what was written.
    fn answer(delivery: &Delivery) -> Value {
        let mut command = Cmd::new();
        write(&mut command, delivery);
        let fields = command.args_iter().map(|argument| match argument {
            Arg::Simple(bytes) => bulk(bytes),
            _ => Value::Nil,
        });
        let entry = Value::Array(vec![bulk("1-0"), Value::Array(fields.collect())]);
        Value::Array(vec![Value::Array(vec![
            bulk("stream"),
            Value::Array(vec![entry]),
        ])])
    }

    #[test]
    fn what_is_written_is_read_again_and_no_header_is_an_attribute() {
        let mut builder = Message::builder("orders", "/shop", "order.placed")
            .id("m-1")
            .key("order 7")
            .header("x-tenant", "ž\"7")
            .data_content_type("text/plain")
            .payload(&b"\0\xff\r\n"[..]);
        for name in ["id", "data", "type", "header.id", "sequence"] {
            builder = builder.header(name, "evil");
        }
        let message = builder.build().unwrap();
        let delivery = Delivery::new(message, 42, 1, SystemTime::UNIX_EPOCH);
        let [entry] = <[Entry; 1]>::try_from(entries(answer(&delivery)).unwrap()).unwrap();
        let received = entry.read("orders", 1).unwrap();
        assert_eq!(received.id(), "m-1");
        assert_eq!(received.source(), "/shop");
        assert_eq!(received.event_type(), "order.placed");
        assert_eq!(received.key().unwrap(), b"order 7");
        assert_eq!(received.sequence(), 42);
        assert_eq!(received.headers()["x-tenant"], "ž\"7");
        assert_eq!(received.headers()["id"], "evil");
        assert_eq!(received.data_content_type(), Some("text/plain"));
        assert_eq!(received.data()[..], b"\0\xff\r\n"[..]);
    }

    #[test]
    fn what_was_trimmed_is_gone_and_what_is_no_event_is_not_read() {
        let list = |entry: Value| Value::Map(vec![(bulk("stream"), Value::Array(vec![entry]))]);
        let gone = list(Value::Array(vec![bulk("1-0"), Value::Nil]));
        assert!(entries(gone).unwrap()[0].is_gone());
        let fields = Value::Array(vec![bulk([0xff]), bulk([0xff])]);
        let strange = list(Value::Array(vec![bulk("1-0"), fields]));
        let strange = entries(strange).unwrap();
        assert!(!strange[0].is_gone());
        assert!(strange[0].read("orders", 1).is_none());
        for none in [Value::Nil, Value::Array(Vec::new())] {
            assert_eq!(entries(none), Some(Vec::new()));
        }
        for wrong in [Value::Okay, list(Value::Nil), list(bulk("1-0"))] {
            assert_eq!(entries(wrong), None);
        }
    }

    proptest! {
        /// Arguments of a command have lengths, so nothing ends one; and no header is an attribute.
        #[test]
        fn headers_and_keys_inject_nothing(
            key in proptest::collection::vec(any::<u8>(), 1..255),
            text in "[^\\p{C}]{1,60}",
            value in "[^\\p{C}]{0,60}",
            names in proptest::collection::vec("(id|data|source|header|partitionkey|[a-z.*#]{1,9})", 0..6),
        ) {
            let mut builder = Message::builder("orders", &*text, "t").id("m-1").subject(&*text);
            for name in &names {
                builder = builder.header(name, &*value);
            }
            let message = builder.key(&key).payload(key.clone()).build().unwrap();
            let delivery = Delivery::new(message, 42, 1, SystemTime::UNIX_EPOCH);
            let entry = entries(answer(&delivery)).unwrap().remove(0);
            let received = entry.read("orders", 1).unwrap();
            prop_assert_eq!(received.id(), "m-1");
            prop_assert_eq!(received.source(), &*text);
            prop_assert_eq!(received.key(), Some(key.clone()));
            prop_assert_eq!(&received.data()[..], &key[..]);
            prop_assert_eq!(received.headers().len(), delivery.message().headers().len());
            prop_assert_eq!(received.headers(), delivery.message().headers());
        }

        #[test]
        fn any_fields_are_read_without_a_panic(fields: Vec<(Vec<u8>, Vec<u8>)>) {
            let entry = Entry { id: b"1-0".to_vec(), fields: Some(fields) };
            let _ = entry.read("orders", 2);
        }
    }
}
