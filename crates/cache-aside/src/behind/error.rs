//! Why a write was not taken.

use std::borrow::Cow;

use buttress_core::Fault;

/// Why a write is not queued. Nothing was changed: it may be tried again, or written through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum WriteBehindError {
    /// As many keys wait as may. Try again later, or write the source yourself.
    #[error("too many writes wait for the source")]
    Full,
    /// It was stopped, or is being.
    #[error("writing behind was stopped")]
    Stopped,
    /// The value was said to be as it was before: there is nothing to write. An error in the caller.
    #[error("there is nothing to write")]
    NothingToWrite,
}

/// 503: nothing was done, and it may be tried again.
impl Fault for WriteBehindError {
    fn code(&self) -> &'static str {
        match self {
            Self::Full => "TOO_MANY_WRITES",
            Self::Stopped => "UNAVAILABLE",
            Self::NothingToWrite => "INTERNAL",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Full | Self::Stopped => 503,
            Self::NothingToWrite => 500,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Full | Self::Stopped => "This cannot be written right now.".into(),
            Self::NothingToWrite => "Something went wrong.".into(),
        }
    }
}
