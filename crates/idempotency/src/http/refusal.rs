//! Why a request is answered here, and not by its handler.

use std::{borrow::Cow, time::Duration};

use buttress_core::Fault;

/// Why a request is answered without its handler being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The route needs a key and there is none. 400.
    #[error("no idempotency key")]
    KeyMissing,
    /// There is a key that may not be used, or there are several. 400.
    #[error("the idempotency key cannot be used")]
    KeyInvalid,
    /// The body could not be read to its end. 400.
    #[error("the body could not be read")]
    BodyLost,
    /// The body is longer than is read. 413.
    #[error("the body is too large")]
    BodyTooLarge,
    /// Whose request it is cannot be told, so neither whose key. 401.
    #[error("nobody's request: its scope is not known")]
    Nobody,
    /// The key came before, with another request. 422.
    #[error("the idempotency key came with another request before")]
    Mismatch,
    /// The first request with this key is still running, or how it ended is not known. 409.
    #[error("the first request with this key is still running")]
    InFlight {
        /// When it is worth coming back.
        retry_after: Duration,
    },
    /// The request was carried out, and its answer was too large to be kept, or streamed. 409, and
    /// there is no use in coming back.
    #[error("the answer to the first request was not kept")]
    AnswerNotKept,
    /// What is stored under the key cannot be read. 500.
    #[error("the stored answer cannot be read")]
    Unreadable,
    /// The store could not be asked, and the policy is to refuse then. 503.
    #[error("the store of idempotency keys cannot be asked")]
    Unavailable {
        /// When it is worth coming back.
        retry_after: Duration,
    },
}

impl Fault for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::KeyMissing => "IDEMPOTENCY_KEY_MISSING",
            Self::KeyInvalid => "IDEMPOTENCY_KEY_INVALID",
            Self::BodyLost => "MALFORMED_REQUEST",
            Self::BodyTooLarge => "PAYLOAD_TOO_LARGE",
            Self::Nobody => "UNAUTHENTICATED",
            Self::Mismatch => "IDEMPOTENCY_KEY_REUSED",
            Self::InFlight { .. } => "IDEMPOTENCY_KEY_IN_USE",
            Self::AnswerNotKept => "IDEMPOTENCY_ANSWER_NOT_KEPT",
            Self::Unreadable => "INTERNAL",
            Self::Unavailable { .. } => "UNAVAILABLE",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::KeyMissing | Self::KeyInvalid | Self::BodyLost => 400,
            Self::Nobody => 401,
            Self::InFlight { .. } | Self::AnswerNotKept => 409,
            Self::BodyTooLarge => 413,
            Self::Mismatch => 422,
            Self::Unreadable => 500,
            Self::Unavailable { .. } => 503,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        let message = match self {
            Self::KeyMissing => "This request needs an Idempotency-Key header.",
            Self::KeyInvalid => {
                "An Idempotency-Key is at most 255 printable ASCII characters, sent once."
            }
            Self::BodyLost => "The body could not be read.",
            Self::BodyTooLarge => "The body is too large.",
            Self::Nobody => "It is not known whose request this is.",
            Self::Mismatch => "This Idempotency-Key was used for another request before.",
            Self::InFlight { .. } => {
                "The first request with this Idempotency-Key is still running."
            }
            Self::AnswerNotKept => {
                "This request was carried out before, and its answer was not kept."
            }
            Self::Unreadable => "The request could not be served.",
            Self::Unavailable { .. } => "The service cannot take requests right now.",
        };
        message.into()
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::InFlight { retry_after } | Self::Unavailable { retry_after } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}
