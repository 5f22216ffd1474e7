//! What is said: an event of CloudEvents with a key, headers and a trace context.

mod attributes;
mod builder;
mod check;
mod topic;

use std::{collections::BTreeMap, fmt, time::SystemTime};

use buttress_store::{Key, Micros};
use bytes::Bytes;

pub(crate) use self::{attributes::Attributes, builder::Due};
pub use self::{builder::MessageBuilder, topic::Topic};
use crate::MessageError;

/// A message: the attributes of [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md),
/// a topic, an ordering key, headers, a trace context and a payload.
///
/// Messages of one topic that have the same key are delivered in order; one without a key waits
/// for no other.
///
/// ```
/// use buttress_outbox::Message;
///
/// # fn main() -> Result<(), buttress_outbox::MessageError> {
/// let message = Message::builder("orders", "/shop", "order.placed")
///     .key("order 7")
///     .json(&["one apple"])
///     .build()?;
/// assert_eq!(message.data_content_type(), Some("application/json"));
/// # Ok(()) }
/// ```
///
/// `Debug` shows neither payload nor key nor headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub(crate) topic: Topic,
    pub(crate) key: Option<Key>,
    pub(crate) attributes: Attributes,
    pub(crate) payload: Bytes,
    pub(crate) due: Due,
}

impl Message {
    /// The most bytes of a payload: 1 MiB. A row is no place for a file; send a link.
    pub const LONGEST_PAYLOAD: usize = 1 << 20;
    /// The most headers.
    pub const MOST_HEADERS: usize = 64;

    /// A message in the making. Of CloudEvents, `source` says where it happened (a URI reference)
    /// and `event_type` what; the pair of source and id is unique.
    pub fn builder(
        topic: impl AsRef<str>,
        source: impl Into<String>,
        event_type: impl Into<String>,
    ) -> MessageBuilder {
        MessageBuilder::new(topic.as_ref(), source.into(), event_type.into())
    }

    pub(crate) fn stored(
        topic: Topic,
        key: &[u8],
        attributes: &[u8],
        payload: Vec<u8>,
    ) -> Result<Self, serde_json::Error> {
        let attributes: Attributes = serde_json::from_slice(attributes)?;
        let key = if attributes.unordered {
            None
        } else {
            Key::new(key).ok()
        };
        Ok(Self {
            topic,
            key,
            attributes,
            payload: payload.into(),
            due: Due::Now,
        })
    }

    /// The topic: one destination, by one publisher of a relay.
    #[must_use]
    pub const fn topic(&self) -> &Topic {
        &self.topic
    }

    /// CloudEvents' `id`: the same in every delivery of this message. A UUID of version 7, unless
    /// another was chosen.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.attributes.id
    }

    /// CloudEvents' `source`.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.attributes.source
    }

    /// CloudEvents' `type`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.attributes.event_type
    }

    /// CloudEvents' `subject`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.attributes.subject.as_deref()
    }

    /// CloudEvents' `time`: when it happened. To the microsecond.
    #[must_use]
    pub fn time(&self) -> Option<SystemTime> {
        self.attributes
            .time
            .map(|micros| Micros::new(micros).into())
    }

    /// CloudEvents' `datacontenttype`.
    #[must_use]
    pub fn data_content_type(&self) -> Option<&str> {
        self.attributes.data_content_type.as_deref()
    }

    /// CloudEvents' `dataschema`.
    #[must_use]
    pub fn data_schema(&self) -> Option<&str> {
        self.attributes.data_schema.as_deref()
    }

    /// W3C Trace Context's `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.attributes.traceparent.as_deref()
    }

    /// W3C Trace Context's `tracestate`.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.attributes.tracestate.as_deref()
    }

    /// Of messages with the same key, none overtakes another.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The headers; their names are lower-case.
    #[must_use]
    pub const fn headers(&self) -> &BTreeMap<String, String> {
        &self.attributes.headers
    }

    /// The payload.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(crate) fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), MessageError> {
        check::headers(headers)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("id", &self.id())
            .field("type", &self.event_type())
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
