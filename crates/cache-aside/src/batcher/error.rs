//! Why a batch brought nothing.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use buttress_core::Fault;

/// Why there is no value, and no word that there is none. One call's error is shared by all who waited for it, so it is
/// cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BatchError {
    /// The loader failed, for all keys or for this one. Its own error is the source of this one, and is found by
    /// [`downcast_ref`](Self::downcast_ref). A load only reads, so it may be tried again.
    Load(Arc<dyn Error + Send + Sync>),
    /// The loader panicked; what it said.
    Panicked(Arc<str>),
}

impl BatchError {
    pub(super) fn of_loader(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Load(error.into().into())
    }

    /// The loader's own error, if it is of this type.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Load(error) => error.downcast_ref(),
            Self::Panicked(_) => None,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load(_) => "the batch could not be loaded",
            Self::Panicked(_) => "the loader of the batch panicked",
        })
    }
}

impl Error for BatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Load(error) => Some(&**error),
            Self::Panicked(_) => None,
        }
    }
}

/// 503 when the loader failed.
impl Fault for BatchError {
    fn code(&self) -> &'static str {
        match self {
            Self::Load(_) => "SOURCE_FAILED",
            Self::Panicked(_) => "INTERNAL",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Load(_) => 503,
            Self::Panicked(_) => 500,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::Load(_) => "What was asked for cannot be read right now.".into(),
            Self::Panicked(_) => "Something went wrong.".into(),
        }
    }
}
