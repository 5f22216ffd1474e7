//! What can go wrong with the handle, and what the caller should do.

use std::{borrow::Cow, time::Duration};

use buttress_core::Fault;
use buttress_store::{KeyError, StoreError};

use crate::{IllegalEntry, State};

/// Why a saga was not started, read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The store did not do it; [`StoreError::class`] says whether it was done. Starting again
    /// with the same id is one saga.
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// The business key, or the signal's, is none.
    #[error("the key is none")]
    Key(#[from] KeyError),
    /// The input, or the payload, cannot be written as JSON.
    #[error("what was given cannot be written as JSON")]
    Input(#[source] serde_json::Error),
    /// The input, or the payload, is longer than may be.
    #[error("what was given has {length} bytes as JSON, of at most {longest}")]
    TooLong {
        /// How long it is.
        length: usize,
        /// How long it may be.
        longest: usize,
    },
    /// What the saga returned is not of this type: the type has changed since.
    #[error("what the saga returned is not of this type")]
    Output(#[source] serde_json::Error),
    /// There is no such saga, or it was pruned.
    #[error("there is no such saga")]
    NotFound,
    /// It belongs to another definition than the one that was given.
    #[error("the saga was started by another definition")]
    OtherDefinition,
    /// It cannot be done in this state.
    #[error("the saga is {}, where this cannot be done", state.as_str())]
    WrongState {
        /// Where it stands.
        state: State,
    },
    /// There is no step of this name to which it could be done.
    #[error("there is no such step, or nothing to be done with it now")]
    NoSuchStep,
    /// It has as many signals as a saga may have.
    #[error("the saga has {most} signals, and may have no more")]
    TooManySignals {
        /// How many it may have.
        most: u32,
    },
    /// It went on meanwhile. Look again.
    #[error("the saga went on meanwhile")]
    Moved,
    /// Its journal is none that the definition can have written.
    #[error("the journal is none that this definition can have written")]
    Illegal(#[from] IllegalEntry),
}

impl Fault for SagaError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => Fault::code(error),
            Self::NotFound => "SAGA_NOT_FOUND",
            Self::WrongState { .. } | Self::Moved | Self::NoSuchStep => "SAGA_CONFLICT",
            _ => "INTERNAL",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Store(error) => error.status(),
            Self::NotFound => 404,
            Self::WrongState { .. } | Self::Moved | Self::NoSuchStep => 409,
            _ => 500,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Store(error) => error.public_message(),
            Self::NotFound => "There is no such process.".into(),
            Self::WrongState { .. } | Self::Moved | Self::NoSuchStep => {
                "The process is not where this could be done.".into()
            }
            _ => "Something went wrong on our side.".into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Store(error) => Fault::retry_after(error),
            _ => None,
        }
    }
}
