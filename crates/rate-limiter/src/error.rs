//! What can be wrong with a policy, a key, or a store. That a call is refused is `Decision`, or
//! `buttress_core::Rejection`.

use std::{borrow::Cow, time::Duration};

use buttress_core::Fault;
use buttress_store::{KeyError, StoreError};

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

/// A shared limiter could not decide. That it refused is a `Decision`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// What was given is no key: it is empty, or too long. Nothing is cut silently; make it shorter, by a
    /// hash for example.
    #[error("no rate limit key: {0}")]
    Key(KeyError),
    /// The store does not answer, and the policy is to refuse then. Come back later.
    #[error("a rate limiter's store does not answer")]
    Store(#[source] StoreError),
}

impl From<KeyError> for SharedError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// 400 for what is no key, 503 `UNAVAILABLE` when the store is down.
impl Fault for SharedError {
    fn code(&self) -> &'static str {
        match self {
            Self::Key(_) => "INVALID_RATE_LIMIT_KEY",
            Self::Store(error) => Fault::code(error),
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Key(_) => 400,
            Self::Store(error) => error.status(),
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Key(_) => {
                "The request does not say who makes it in a form that is accepted.".into()
            }
            Self::Store(error) => error.public_message(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Key(_) => None,
            Self::Store(error) => Fault::retry_after(error),
        }
    }
}
