//! What is told of an order.

use serde::{Deserialize, Serialize};

/// Where events go.
pub(crate) const TOPIC: &str = "orders";

/// Something that happened to an order. Its version is one more than that of the event before it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct OrderEvent {
    pub(crate) order: String,
    pub(crate) customer: String,
    pub(crate) version: i64,
    pub(crate) change: Change,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Placed,
    LineAdded { quantity: i64, price: i64 },
    Shipped,
    Cancelled,
}

impl Change {
    /// The type of the event.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Placed => "order.placed",
            Self::LineAdded { .. } => "order.line_added",
            Self::Shipped => "order.shipped",
            Self::Cancelled => "order.cancelled",
        }
    }
}
