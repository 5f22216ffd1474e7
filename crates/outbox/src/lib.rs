#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(any(feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code, reason = "without a dialect there is no store to use it")
)]

#[cfg(any(feature = "nats", feature = "rabbitmq", feature = "redis"))]
pub mod consumer;
mod error;
mod event;
mod inbox;
mod machine;
mod message;
#[cfg(feature = "metrics")]
mod metrics;
mod operations;
mod outbox;
mod policy;
pub mod publisher;
mod relay;
mod store;
#[cfg(all(
    feature = "testing",
    any(feature = "mysql", feature = "postgres", feature = "sqlite")
))]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;
mod wake;
#[cfg(feature = "webhook")]
pub mod webhook;

#[cfg(feature = "metrics")]
pub use self::metrics::MetricsObserver;
#[cfg(feature = "postgres")]
pub use self::store::AppendAfter;
pub use self::{
    error::{MessageError, OutboxError, PolicyError, PublishError, PublishErrorKind},
    event::{Event, EventKind, TraceEvents},
    inbox::{Inbox, Taken},
    message::{Message, MessageBuilder, Topic},
    operations::{Counts, DeadLetter, PastMessage, WaitingKey},
    outbox::Outbox,
    policy::{AfterDeath, RelayPolicy, Retention, TopicOrder, TopicPolicy},
    publisher::{Delivery, PublishOrder, Publisher},
    relay::{Pass, Relay, RelayBuilder},
    store::OutboxStore,
};
