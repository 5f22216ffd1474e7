//! What happened to a call, and the listener that writes it to the log.

use std::{sync::Arc, time::Duration};

use buttress_core::Observer;

use crate::Stopped;

/// What happened to one call of a [`Retry`](crate::Retry) or a [`Hedge`](crate::hedge::Hedge).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An attempt failed, and after `wait` there will be another.
    #[non_exhaustive]
    Retrying {
        /// The handle's name.
        name: Arc<str>,
        /// The attempt that failed, counted from 1.
        attempt: u32,
        /// How long until the next one.
        wait: Duration,
    },
    /// A further attempt was begun beside those that are under way.
    #[non_exhaustive]
    Hedged {
        /// The handle's name.
        name: Arc<str>,
        /// The attempt that was begun, counted from 1: the first hedge is 2.
        attempt: u32,
    },
    /// The call succeeded.
    #[non_exhaustive]
    Succeeded {
        /// The handle's name.
        name: Arc<str>,
        /// How many attempts it took, from 1.
        attempts: u32,
    },
    /// The call failed.
    #[non_exhaustive]
    GaveUp {
        /// The handle's name.
        name: Arc<str>,
        /// How many attempts were made.
        attempts: u32,
        /// Why there was no further one.
        stopped: Stopped,
    },
}

/// Writes events to `tracing`: a retry at debug level, giving up at warn level (at debug when it was
/// refused for good, which is the caller's affair), a success that took more than one attempt at
/// debug level. Fields: `retry.name`, `retry.attempt`, `retry.wait_ms`, `retry.stopped`. The error
/// itself is not written: it is in the result.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct TraceEvents;

impl Observer<Event> for TraceEvents {
    fn on_event(&self, event: &Event) {
        match event {
            Event::Retrying {
                name,
                attempt,
                wait,
            } => tracing::debug!(
                retry.name = %name.escape_debug(),
                retry.attempt = attempt,
                retry.wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "an attempt failed; trying again"
            ),
            Event::Hedged { name, attempt } => tracing::debug!(
                retry.name = %name.escape_debug(),
                retry.attempt = attempt,
                "an attempt is slow or failed; another is begun beside it"
            ),
            Event::Succeeded { attempts: 1, .. } => {}
            Event::Succeeded { name, attempts } => tracing::debug!(
                retry.name = %name.escape_debug(),
                retry.attempt = attempts,
                "succeeded after retries"
            ),
            Event::GaveUp {
                name,
                attempts,
                stopped: Stopped::Final,
            } => tracing::debug!(
                retry.name = %name.escape_debug(),
                retry.attempt = attempts,
                retry.stopped = Stopped::Final.as_str(),
                "gave up"
            ),
            Event::GaveUp {
                name,
                attempts,
                stopped,
            } => tracing::warn!(
                retry.name = %name.escape_debug(),
                retry.attempt = attempts,
                retry.stopped = stopped.as_str(),
                "gave up"
            ),
        }
    }
}
