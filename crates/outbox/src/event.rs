//! What happened to a relay, and who writes it to the log.

use std::time::Duration;

use buttress_core::{Class, Observer};

use crate::Topic;

/// Something that happened on a relay. Told after it has happened, outside of all locks. It holds
/// no key, no payload and no header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The topic.
    pub topic: Topic,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Lanes were claimed.
    #[non_exhaustive]
    Claimed {
        /// How many.
        lanes: usize,
        /// How many of them were not handed back by whoever held them before.
        lapsed: usize,
    },
    /// Lanes were handed back: to a relay that came, or at the end.
    #[non_exhaustive]
    HandedBack {
        /// How many.
        lanes: usize,
    },
    /// Lanes were lost: their lease lapsed before it was extended.
    #[non_exhaustive]
    Lost {
        /// How many.
        lanes: usize,
    },
    /// Messages were delivered, and that was settled.
    #[non_exhaustive]
    Delivered {
        /// How many.
        messages: usize,
    },
    /// A settlement was refused, for the lanes have another owner: he delivers these again.
    #[non_exhaustive]
    Stale {
        /// How many messages it was about.
        messages: usize,
    },
    /// [In one order of all](crate::TopicOrder::Global), a transaction that has appended and not
    /// ended holds messages back. Told about once a second, for as long as it does.
    #[non_exhaustive]
    HeldBack {
        /// How many were seen, at most a batch.
        messages: usize,
        /// For how long.
        time: Duration,
    },
    /// Keys were set aside: their head waits for its next attempt or its time.
    #[non_exhaustive]
    SetAside {
        /// How many.
        keys: usize,
    },
    /// Messages were given up.
    #[non_exhaustive]
    Died {
        /// How many.
        messages: usize,
    },
    /// The destination is down, and is left alone for so long.
    #[non_exhaustive]
    Down {
        /// How long.
        wait: Duration,
    },
    /// The destination answers again.
    Back,
    /// The destination wants no messages any more: the topic is paused until it is resumed.
    Gone,
    /// The publisher panicked, or did not answer by its deadline. What it had is tried again, one
    /// by one.
    #[non_exhaustive]
    Hung {
        /// It panicked.
        panicked: bool,
    },
    /// Whoever published this one message alone died over it.
    #[non_exhaustive]
    Lapsed {
        /// The message's place.
        sequence: i64,
    },
    /// Pieces of [the ring](crate::OutboxStore::with_ring) were emptied.
    #[non_exhaustive]
    Truncated {
        /// How many.
        pieces: usize,
    },
    /// Pieces of [the ring](crate::OutboxStore::with_ring) could not be emptied though they should:
    /// what is in them is not settled, or somebody reads or writes there. It costs space, until
    /// they are. Told with each attempt, every 5 s.
    #[non_exhaustive]
    Pinned {
        /// How many.
        pieces: usize,
        /// Of them, those in which all is settled and a transaction is at work.
        busy: usize,
    },
    /// The store failed; it is asked again.
    #[non_exhaustive]
    StoreFailed {
        /// What was being done.
        operation: &'static str,
        /// What is known about the effect.
        class: Class,
    },
}

/// Writes events to `tracing`: what somebody should look at at warn level, the rest at debug level.
/// Fields: `outbox.topic` and what the event says.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct TraceEvents;

impl Observer<Event> for TraceEvents {
    fn on_event(&self, event: &Event) {
        let topic = event.topic.as_str();
        match &event.kind {
            EventKind::Claimed { lanes, lapsed } => {
                tracing::debug!(outbox.topic = topic, lanes, lapsed, "lanes were claimed");
            }
            EventKind::HandedBack { lanes } => {
                tracing::debug!(outbox.topic = topic, lanes, "lanes were handed back");
            }
            EventKind::Lost { lanes } => {
                tracing::warn!(outbox.topic = topic, lanes, "the lease on lanes was lost");
            }
            EventKind::Delivered { messages } => {
                tracing::debug!(outbox.topic = topic, messages, "messages were delivered");
            }
            EventKind::Stale { messages } => tracing::warn!(
                outbox.topic = topic,
                messages,
                "a settlement came too late: these messages are delivered again by another relay"
            ),
            EventKind::HeldBack { messages, time } => tracing::warn!(
                outbox.topic = topic,
                messages,
                time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                "a transaction that does not end holds messages back"
            ),
            EventKind::SetAside { keys } => {
                tracing::debug!(outbox.topic = topic, keys, "keys were set aside");
            }
            EventKind::Died { messages } => {
                tracing::warn!(outbox.topic = topic, messages, "messages were given up");
            }
            EventKind::Down { wait } => tracing::warn!(
                outbox.topic = topic,
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "the destination is down"
            ),
            EventKind::Back => {
                tracing::info!(outbox.topic = topic, "the destination answers again");
            }
            EventKind::Gone => tracing::warn!(
                outbox.topic = topic,
                "the destination wants no messages any more; the topic is paused"
            ),
            EventKind::Hung { panicked } => tracing::warn!(
                outbox.topic = topic,
                panicked,
                "the publisher gave no answer"
            ),
            EventKind::Lapsed { sequence } => tracing::warn!(
                outbox.topic = topic,
                sequence,
                "whoever published this message alone died over it"
            ),
            EventKind::Truncated { pieces } => {
                tracing::debug!(
                    outbox.topic = topic,
                    pieces,
                    "pieces of the ring were emptied"
                );
            }
            EventKind::Pinned { pieces, busy } => tracing::warn!(
                outbox.topic = topic,
                pieces,
                busy,
                "pieces of the ring cannot be emptied"
            ),
            EventKind::StoreFailed { operation, class } => tracing::warn!(
                outbox.topic = topic,
                operation,
                class = ?class,
                "the outbox's store failed; it is asked again"
            ),
        }
    }
}
