//! A message in the making.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use buttress_store::{Key, Micros};
use bytes::Bytes;
use serde::Serialize;

use super::{Attributes, Message, Topic, check};
use crate::MessageError;

/// When a message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    /// So long after it is appended, by the store's clock.
    After(Duration),
    At(Micros),
}

/// A message in the making; made by [`Message::builder`]. What is wrong with a field is said by
/// [`build`](Self::build).
#[must_use = "build() makes the message"]
pub struct MessageBuilder {
    topic: Result<Topic, MessageError>,
    key: Option<Vec<u8>>,
    attributes: Attributes,
    payload: Result<Bytes, MessageError>,
    due: Due,
}

impl MessageBuilder {
    pub(super) fn new(topic: &str, source: String, event_type: String) -> Self {
        Self {
            topic: Topic::new(topic),
            key: None,
            attributes: Attributes {
                source,
                event_type,
                ..Attributes::default()
            },
            payload: Ok(Bytes::new()),
            due: Due::Now,
        }
    }

    /// CloudEvents' `id`, 1 to 255 bytes. By default a UUID of version 7: a receiver tells
    /// repeated deliveries by it, so choose one that is as unique, and that nobody can guess.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.attributes.id = id.into();
        self
    }

    /// The ordering key, 1 to 255 bytes, compared as bytes: messages of a topic with the same key
    /// are delivered in the order in which their transactions took turns.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// CloudEvents' `subject`: what in the source it is about. 1 to 1024 bytes.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.attributes.subject = Some(subject.into());
        self
    }

    /// CloudEvents' `time`: when it happened. Not by default: the append's time is kept by itself.
    pub fn time(mut self, time: SystemTime) -> Self {
        self.attributes.time = Some(Micros::from(time).get());
        self
    }

    /// CloudEvents' `datacontenttype`, 1 to 255 bytes.
    pub fn data_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.attributes.data_content_type = Some(content_type.into());
        self
    }

    /// CloudEvents' `dataschema`, a URI of 1 to 2048 bytes.
    pub fn data_schema(mut self, schema: impl Into<String>) -> Self {
        self.attributes.data_schema = Some(schema.into());
        self
    }

    /// W3C Trace Context's `traceparent`: carried to whoever receives the message.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.attributes.traceparent = Some(traceparent.into());
        self
    }

    /// W3C Trace Context's `tracestate`, 1 to 512 bytes.
    pub fn tracestate(mut self, tracestate: impl Into<String>) -> Self {
        self.attributes.tracestate = Some(tracestate.into());
        self
    }

    /// A header. Names are kept in lower case; the same name again replaces it.
    pub fn header(mut self, name: impl AsRef<str>, value: impl Into<String>) -> Self {
        let name = name.as_ref().to_ascii_lowercase();
        self.attributes.headers.insert(name, value.into());
        self
    }

    /// The payload, as bytes.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = Ok(payload.into());
        self
    }

    /// The payload, as JSON; the content type becomes `application/json`.
    pub fn json(mut self, payload: &impl Serialize) -> Self {
        let written = serde_json::to_vec(payload);
        self.payload = written.map(Bytes::from).map_err(|_| MessageError::NotJson);
        self.data_content_type("application/json")
    }

    /// Not before so long after it is appended, by the store's clock. Later messages of its key
    /// wait for it.
    pub const fn delayed(mut self, delay: Duration) -> Self {
        self.due = Due::After(delay);
        self
    }

    /// Not before this time, judged by the store's clock. Later messages of its key wait for it.
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.due = Due::At(time.into());
        self
    }

    /// The message.
    ///
    /// # Errors
    ///
    /// [`MessageError`], naming the field and what it must be.
    pub fn build(self) -> Result<Message, MessageError> {
        let topic = self.topic?;
        let payload = self.payload?;
        if payload.len() > Message::LONGEST_PAYLOAD {
            return Err(MessageError::PayloadTooLong {
                length: payload.len(),
                longest: Message::LONGEST_PAYLOAD,
            });
        }
        let key = self.key.map(Key::new).transpose();
        let key = key.map_err(|_| MessageError::Field {
            field: "key",
            rule: "1 to 255 bytes",
        })?;
        let mut attributes = self.attributes;
        if attributes.id.is_empty() {
            attributes.id = uuid::Uuid::now_v7().to_string();
        }
        attributes.unordered = key.is_none();
        Self::check(&attributes)?;
        Ok(Message {
            topic,
            key,
            attributes,
            payload,
            due: self.due,
        })
    }

    fn check(attributes: &Attributes) -> Result<(), MessageError> {
        let short = "1 to 255 bytes without control characters";
        let long = "1 to 2048 bytes without control characters";
        check::text("id", &attributes.id, 255, short)?;
        check::text("source", &attributes.source, 2048, long)?;
        check::text("type", &attributes.event_type, 255, short)?;
        if let Some(subject) = &attributes.subject {
            let rule = "1 to 1024 bytes without control characters";
            check::text("subject", subject, 1024, rule)?;
        }
        if let Some(content_type) = &attributes.data_content_type {
            check::text("datacontenttype", content_type, 255, short)?;
        }
        if let Some(schema) = &attributes.data_schema {
            check::text("dataschema", schema, 2048, long)?;
        }
        if let Some(traceparent) = &attributes.traceparent {
            check::traceparent(traceparent)?;
        }
        if let Some(tracestate) = &attributes.tracestate {
            let rule = "1 to 512 bytes without control characters";
            check::text("tracestate", tracestate, 512, rule)?;
        }
        check::headers(&attributes.headers)
    }
}

impl fmt::Debug for MessageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBuilder")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> MessageBuilder {
        Message::builder("orders", "/shop", "order.placed")
    }

    #[test]
    fn what_cannot_be_carried_is_refused_with_its_field() {
        let long = "a".repeat(5000);
        for (builder, field) in [
            (Message::builder("a b", "/shop", "t"), "topic"),
            (Message::builder("orders", "", "t"), "source"),
            (Message::builder("orders", "/shop", ""), "type"),
            (base().id("a\nb"), "id"),
            (base().subject(&*long), "subject"),
            (base().subject("a\0"), "subject"),
            (base().data_content_type("a\r\nx: y"), "datacontenttype"),
            (base().data_schema(""), "dataschema"),
            (base().traceparent("00"), "traceparent"),
            (base().tracestate("\u{7f}"), "tracestate"),
            (base().key(""), "key"),
            (base().key(&long[..256]), "key"),
            (base().header("a b", "c"), "headers"),
            (base().header("a", "b\r\nc"), "headers"),
            (base().header("a", &*long), "headers"),
        ] {
            match builder.build() {
                Err(MessageError::Field { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{field}: {other:?}"),
            }
        }
        let big = base().payload(vec![0; Message::LONGEST_PAYLOAD + 1]);
        assert!(matches!(
            big.build(),
            Err(MessageError::PayloadTooLong { .. })
        ));
        let message = base().header("X-Tenant", "7").key([0, 255]).build();
        let message = message.unwrap();
        assert_eq!(message.headers()["x-tenant"], "7");
        assert_eq!(message.key().map(Key::as_bytes), Some(&[0, 255][..]));
    }

    #[test]
    fn a_stored_message_is_the_one_that_was_made() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let message = base().key("7").subject("apple").traceparent(trace);
        let message = message.header("a", "ä").tracestate("b=1").json(&7);
        let message = message.data_schema("x:y").build().unwrap();
        let key = message.key.clone().unwrap();
        let stored = Message::stored(
            message.topic.clone(),
            key.as_bytes(),
            &message.attributes.to_bytes(),
            message.payload.to_vec(),
        );
        assert_eq!(stored.unwrap(), message);
    }

    #[test]
    fn ids_are_of_their_own_and_cannot_be_guessed() {
        let ids = [(); 2].map(|()| base().build().unwrap());
        assert_ne!(ids[0].id(), ids[1].id());
        let id: uuid::Uuid = ids[0].id().parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }

    #[test]
    fn debug_shows_neither_payload_nor_key() {
        let message = base().key("secret").payload("secret").header("a", "secret");
        let shown = format!("{message:?}") + &format!("{:?}", message.build());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
