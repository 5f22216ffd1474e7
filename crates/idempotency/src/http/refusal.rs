//! Why a request is answered here, and not by its handler.

use std::{borrow::Cow, time::Duration};

use buttress_core::Fault;

use crate::{IdempotencyError, Refusal};

/// Why the `Idempotency-Key` header is of no use. 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRefusal {
    /// There must be one, and there is none.
    #[error("no idempotency key")]
    Missing,
    /// There is one that may not be used, or there are several.
    #[error("the idempotency key cannot be used")]
    Invalid,
}

/// Why a request is answered without its handler being asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpRefusal {
    /// The header is of no use. 400.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// Whose request it is cannot be told, so neither whose key. 401.
    #[error("nobody's request: its scope is not known")]
    Nobody,
    /// The body could not be read to its end. 400.
    #[error("the body could not be read")]
    BodyLost,
    /// The body is longer than is read. 413.
    #[error("the body is too large")]
    BodyTooLarge,
    /// The key is somebody's who is still at it (409), or of another request (422).
    #[error(transparent)]
    InUse(#[from] Refusal),
    /// The request was carried out, and its answer was too large to be kept, or streamed. 409, and
    /// there is no use in coming back.
    #[error("the answer to the first request was not kept")]
    AnswerNotKept,
    /// The work was stopped with the process, so nobody knows how far it came. 503.
    #[error("the work was stopped")]
    Stopped,
    /// What is stored under the key cannot be read. The request is not run: the record says that it
    /// was. 500.
    #[error("the stored answer cannot be read")]
    Unreadable(#[from] super::UnreadableRecord),
    /// The store could not be asked, and the policy is to refuse then: 503, or 500 when it answered
    /// with an error.
    #[error(transparent)]
    Store(#[from] IdempotencyError),
}

const INTERNAL: &str = "Something went wrong on our side.";

impl Fault for KeyRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing => "IDEMPOTENCY_KEY_MISSING",
            Self::Invalid => "IDEMPOTENCY_KEY_INVALID",
        }
    }

    fn status(&self) -> u16 {
        400
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Missing => "This request needs an Idempotency-Key header.",
            Self::Invalid => {
                "An Idempotency-Key is at most 255 printable ASCII characters, sent once."
            }
        }
        .into()
    }
}

impl Fault for HttpRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Key(refusal) => refusal.code(),
            Self::Nobody => "UNAUTHENTICATED",
            Self::BodyLost => "MALFORMED_REQUEST",
            Self::BodyTooLarge => "PAYLOAD_TOO_LARGE",
            Self::InUse(refusal) => refusal.code(),
            Self::AnswerNotKept => "IDEMPOTENCY_ANSWER_NOT_KEPT",
            Self::Stopped => "UNAVAILABLE",
            Self::Unreadable(_) => "INTERNAL",
            Self::Store(error) => error.code(),
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Key(refusal) => refusal.status(),
            Self::Nobody => 401,
            Self::BodyLost => 400,
            Self::BodyTooLarge => 413,
            Self::InUse(refusal) => refusal.status(),
            Self::AnswerNotKept => 409,
            Self::Stopped => 503,
            Self::Unreadable(_) => 500,
            Self::Store(error) => error.status(),
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Key(refusal) => refusal.public_message(),
            Self::Nobody => "It is not known whose request this is.".into(),
            Self::BodyLost => "The body could not be read.".into(),
            Self::BodyTooLarge => "The body is too large.".into(),
            Self::InUse(refusal) => refusal.public_message(),
            Self::AnswerNotKept => {
                "This request was carried out before, and its answer was not kept.".into()
            }
            Self::Stopped => "The service is stopping.".into(),
            Self::Unreadable(_) => INTERNAL.into(),
            Self::Store(error) => error.public_message(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::InUse(refusal) => refusal.retry_after(),
            Self::Stopped => Some(Duration::from_secs(1)),
            Self::Store(error) => Fault::retry_after(error),
            _ => None,
        }
    }
}
