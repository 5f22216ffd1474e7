//! What can go wrong with the handles.

use std::{borrow::Cow, time::Duration};

use buttress_core::{Class, Fault};
use buttress_store::StoreError;

use crate::{MessageError, PolicyError};

/// An operation of [`Outbox`](crate::Outbox), [`Inbox`](crate::Inbox) or
/// [`Relay`](crate::Relay) that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The store. Its class says whether it was done. In a transaction of yours: roll it back.
    #[error("the outbox's store")]
    Store(#[from] StoreError),
    /// The message, the key or the topic.
    #[error("the message")]
    Message(#[from] MessageError),
    /// The policy.
    #[error("the policy")]
    Policy(#[from] PolicyError),
    /// There is no such dead letter, or somebody else has just dealt with it.
    #[error("there is no such dead letter")]
    NoSuchDeadLetter,
}

impl OutboxError {
    /// What is known about the effect.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::Message(_) | Self::Policy(_) | Self::NoSuchDeadLetter => Class::Final,
        }
    }
}

impl Fault for OutboxError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => Fault::code(error),
            Self::Message(error) => error.code(),
            Self::Policy(error) => error.code(),
            Self::NoSuchDeadLetter => "NOT_FOUND",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Store(error) => error.status(),
            Self::Message(error) => error.status(),
            Self::Policy(error) => error.status(),
            Self::NoSuchDeadLetter => 404,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Store(error) => error.public_message(),
            Self::Message(error) => error.public_message(),
            Self::Policy(error) => error.public_message(),
            Self::NoSuchDeadLetter => "There is no such dead letter.".into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Store(error) => Fault::retry_after(error),
            _ => None,
        }
    }
}
