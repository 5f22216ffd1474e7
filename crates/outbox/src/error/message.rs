//! Why a message cannot be made.

use std::borrow::Cow;

use buttress_core::Fault;

/// A message that cannot be made. Nothing was appended; make it otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A field is empty, too long, or has characters that it may not have.
    #[error("{field}: {rule}")]
    #[non_exhaustive]
    Field {
        /// Which.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The payload is too long.
    #[error("payload: {length} bytes are more than {longest}")]
    #[non_exhaustive]
    PayloadTooLong {
        /// How long it is.
        length: usize,
        /// How long it may be.
        longest: usize,
    },
    /// The payload cannot be written as JSON.
    #[error("payload: it cannot be written as JSON")]
    NotJson,
}

impl Fault for MessageError {
    fn code(&self) -> &'static str {
        "INTERNAL"
    }

    fn status(&self) -> u16 {
        500
    }

    fn public_message(&self) -> Cow<'_, str> {
        "Something went wrong on our side.".into()
    }
}
