//! A message on its way out.

use std::{fmt, time::SystemTime};

use crate::Message;

/// A message as a publisher gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    message: Message,
    sequence: i64,
    attempt: u32,
    created_at: SystemTime,
}

impl Delivery {
    /// A delivery, for a publisher's own tests; the relay makes the others.
    #[must_use]
    pub const fn new(
        message: Message,
        sequence: i64,
        attempt: u32,
        created_at: SystemTime,
    ) -> Self {
        Self {
            message,
            sequence,
            attempt,
            created_at,
        }
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// The message's place: of one key, a later message has a higher one. It has gaps.
    #[must_use]
    pub const fn sequence(&self) -> i64 {
        self.sequence
    }

    /// Which attempt this is, from 1, by what the store knows: attempts that ended without a
    /// verdict (a crash, an outage) are not counted.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When it was appended, by the store's clock.
    #[must_use]
    pub const fn created_at(&self) -> SystemTime {
        self.created_at
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("sequence", &self.sequence)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
