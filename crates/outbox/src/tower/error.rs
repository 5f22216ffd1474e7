//! Why a webhook does not reach the handler.

use std::{borrow::Cow, time::Duration};

use buttress_core::Fault;

use crate::{OutboxError, webhook::VerifyError};

/// A webhook that is not let through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not believed.
    #[error("the webhook is not believed")]
    NotBelieved(#[from] VerifyError),
    /// Its body is longer than is read.
    #[error("the webhook's body is longer than {longest} bytes")]
    #[non_exhaustive]
    TooLong {
        /// How many bytes are read.
        longest: usize,
    },
    /// Its body did not come in time.
    #[error("the webhook's body did not come in time")]
    Late,
    /// Its body ended before its end, or is no body.
    #[error("the webhook's body ended too early")]
    Cut,
    /// Whether it was taken before is not known: the store could not be asked.
    #[error("whether the webhook was taken before is not known")]
    Unknown(#[source] OutboxError),
}

impl Fault for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotBelieved(error) => error.code(),
            Self::TooLong { .. } => "WEBHOOK_TOO_LONG",
            Self::Late => "WEBHOOK_LATE",
            Self::Cut => "WEBHOOK_MALFORMED",
            Self::Unknown(error) => error.code(),
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::NotBelieved(error) => error.status(),
            Self::TooLong { .. } => 413,
            Self::Late => 408,
            Self::Cut => 400,
            Self::Unknown(error) => error.status(),
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::NotBelieved(error) => error.public_message(),
            Self::TooLong { longest } => format!("The body is longer than {longest} bytes.").into(),
            Self::Late => "The body did not come in time.".into(),
            Self::Cut => "The body ended too early.".into(),
            Self::Unknown(error) => error.public_message(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unknown(error) => error.retry_after(),
            _ => None,
        }
    }
}
