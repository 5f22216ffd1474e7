//! What can go wrong, and what the caller should do.

use std::{borrow::Cow, time::Duration};

use buttress_core::Fault;
use buttress_store::{LeaseLost, StoreError};

use crate::PhaseChanged;

/// A key could not be looked up, or what was said about it could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotencyError {
    /// The store did not answer. Of the class not done: try again. Of the class unknown: try again
    /// all the same, the key makes it safe.
    #[error("the store of idempotency keys did not answer")]
    Store(#[from] StoreError),
    /// The store has no transactions of the user's, or none in which a key can be claimed without
    /// making others wait: claim it before the transaction, with `begin`, and `complete_in` it.
    #[error("a key cannot be claimed inside a transaction here: begin before it, complete_in it")]
    NoTransactions,
    /// The store keeps no requests: `begin` without. Or a layer was not told to keep them.
    #[error("no requests are kept here")]
    NoRequests,
    /// The request is larger than the policy lets one be that is kept. Nothing was claimed.
    #[error("a request of {length} bytes, of at most {longest}")]
    RequestTooLarge {
        /// Its length.
        length: usize,
        /// What the policy allows.
        longest: usize,
    },
}

/// The work was done, and what came of it was not recorded. Who comes with the key again may
/// do the work again, unless its effect is in a transaction that was now not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// The claim had gone to another, who does the work as well, or has done it. Do not answer with
    /// what you have: his outcome counts. In a transaction: roll it back.
    #[error("the claim on the key is lost, and another may have done the work")]
    Lost(#[source] LeaseLost),
    /// The store did not answer. Whether it was recorded is what the error's class says.
    #[error("the outcome could not be recorded")]
    Store(#[from] StoreError),
    /// Phases were passed under this key that this program does not have. The key stays in doubt.
    #[error("the work was begun by a program with other phases")]
    Changed(#[from] PhaseChanged),
    /// The outcome is larger than the policy lets a record be. The key stays in doubt.
    #[error("an outcome of {length} bytes, of at most {longest}")]
    TooLarge {
        /// Its length.
        length: usize,
        /// What the policy allows.
        longest: usize,
    },
}

/// Why nothing was done for somebody who came with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Somebody else is at it. To be tried again, unchanged.
    #[error("the work under this key is under way")]
    #[non_exhaustive]
    InFlight {
        /// After so long.
        retry_after: Duration,
    },
    /// The key was used for another request. To be tried under another key, if at all.
    #[error("the key was used for another request")]
    Mismatch,
}

impl Refusal {
    /// Somebody else is at it.
    #[must_use]
    pub const fn in_flight(retry_after: Duration) -> Self {
        Self::InFlight { retry_after }
    }
}

/// 409 and 422, as draft-ietf-httpapi-idempotency-key-header asks.
impl Fault for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::InFlight { .. } => "IDEMPOTENCY_KEY_IN_USE",
            Self::Mismatch => "IDEMPOTENCY_KEY_REUSED",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::InFlight { .. } => 409,
            Self::Mismatch => 422,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::InFlight { .. } => "A request with this idempotency key is being processed.",
            Self::Mismatch => "This idempotency key was used for another request.",
        }
        .into()
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::InFlight { retry_after } => Some(*retry_after),
            Self::Mismatch => None,
        }
    }
}

impl Fault for IdempotencyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => Fault::code(error),
            Self::NoTransactions | Self::NoRequests => "INTERNAL",
            Self::RequestTooLarge { .. } => "PAYLOAD_TOO_LARGE",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Store(error) => error.status(),
            Self::NoTransactions | Self::NoRequests => 500,
            Self::RequestTooLarge { .. } => 413,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Store(error) => error.public_message(),
            Self::NoTransactions | Self::NoRequests => "Something went wrong on our side.".into(),
            Self::RequestTooLarge { .. } => "The request is too large.".into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Store(error) => Fault::retry_after(error),
            Self::NoTransactions | Self::NoRequests | Self::RequestTooLarge { .. } => None,
        }
    }
}

impl Fault for CompleteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Lost(_) => "IDEMPOTENCY_KEY_IN_USE",
            Self::Store(error) => Fault::code(error),
            Self::Changed(_) | Self::TooLarge { .. } => "INTERNAL",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Lost(_) => 409,
            Self::Store(error) => error.status(),
            Self::Changed(_) | Self::TooLarge { .. } => 500,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Lost(_) => "A request with this idempotency key is being processed.".into(),
            Self::Store(error) => error.public_message(),
            Self::Changed(_) | Self::TooLarge { .. } => "Something went wrong on our side.".into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Lost(_) => Some(Duration::from_secs(1)),
            Self::Store(error) => Fault::retry_after(error),
            Self::Changed(_) | Self::TooLarge { .. } => None,
        }
    }
}

/// A policy that cannot work, refused when it is built: which field, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{field} must be {range}")]
pub struct PolicyError {
    field: &'static str,
    range: &'static str,
}

impl PolicyError {
    pub(crate) const fn new(field: &'static str, range: &'static str) -> Self {
        Self { field, range }
    }

    /// The field that cannot be as it is.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What it must be, in words.
    #[must_use]
    pub const fn range(&self) -> &'static str {
        self.range
    }
}
