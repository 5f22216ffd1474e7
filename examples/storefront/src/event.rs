//! What the shop tells others of an order, and what a subscriber keeps of it.

use std::time::SystemTime;

use buttress_outbox::{Message, MessageError};
use serde::Serialize;

use crate::{order::CancelReason, telemetry};

/// The outbox's topic of all that is told.
pub(crate) const TOPIC: &str = "orders";
/// Who tells it.
const SOURCE: &str = "/storefront";

/// Something that happened to an order; its JSON is the event's data.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum OrderEvent {
    Placed { total: i64 },
    Confirmed {},
    Cancelled { reason: CancelReason },
}

impl OrderEvent {
    const fn name(self) -> &'static str {
        match self {
            Self::Placed { .. } => "order.placed",
            Self::Confirmed {} => "order.confirmed",
            Self::Cancelled { .. } => "order.cancelled",
        }
    }

    /// The message that tells it. Those of one order stay in order: its id is their key.
    pub(crate) fn message(
        self,
        order_id: &str,
        time: jiff::Timestamp,
    ) -> Result<Message, MessageError> {
        let message = Message::builder(TOPIC, SOURCE, self.name())
            .key(order_id)
            .subject(order_id)
            .time(SystemTime::from(time))
            .json(&self);
        // Who is told goes on with the trace in which it happened.
        match telemetry::traceparent() {
            Some(traceparent) => message.traceparent(traceparent).build(),
            None => message.build(),
        }
    }
}

/// An event as a subscriber is told it.
#[derive(Clone, Debug)]
pub(crate) struct ToldEvent {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) subject: String,
    pub(crate) time: jiff::Timestamp,
}

/// An event that the subscriber has applied, and which one it was.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AppliedEvent {
    pub(crate) seq: i64,
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) subject: String,
    pub(crate) time: jiff::Timestamp,
}
