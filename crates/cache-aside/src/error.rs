//! What can be wrong with a policy, and why there is no value.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use buttress_core::Fault;

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

/// Why there is no value. One load's error is shared by all who waited for it, so it is cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CacheError {
    /// The source says that there is none. No failure: trying again gives the same until that changes.
    NotFound,
    /// The loader failed. Its own error is the source of this one, and is found by
    /// [`downcast_ref`](Self::downcast_ref). A load only reads, so it may be tried again.
    Load(Arc<dyn Error + Send + Sync>),
    /// The loader panicked; what it said.
    Panicked(Arc<str>),
    /// The load took as long as the policy allows, and was ended.
    TimedOut(Duration),
    /// The loader said that the value has not changed, and there was none: an error in the loader.
    NothingToKeep,
}

impl CacheError {
    pub(crate) fn of_loader(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Load(error.into().into())
    }

    /// The loader's own error, if it is of this type.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Load(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// Whether the source says that there is none.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound)
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("the source has no such value"),
            Self::Load(_) => f.write_str("the value could not be loaded"),
            Self::Panicked(_) => f.write_str("the loader panicked"),
            Self::TimedOut(after) => write!(f, "the load was ended after {after:?}"),
            Self::NothingToKeep => {
                f.write_str("the loader kept a value as not modified, and there was none")
            }
        }
    }
}

impl Error for CacheError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Load(error) => Some(&**error),
            _ => None,
        }
    }
}

/// 404 for what is not there, 503 when the loader failed, 504 when it took too long.
impl Fault for CacheError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::Load(_) => "SOURCE_FAILED",
            Self::TimedOut(_) => "SOURCE_TIMED_OUT",
            Self::Panicked(_) | Self::NothingToKeep => "INTERNAL",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Load(_) => 503,
            Self::TimedOut(_) => 504,
            Self::Panicked(_) | Self::NothingToKeep => 500,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::NotFound => "There is no such thing.".into(),
            Self::Load(_) => "What was asked for cannot be read right now.".into(),
            Self::TimedOut(_) => "What was asked for could not be read in time.".into(),
            Self::Panicked(_) | Self::NothingToKeep => "Something went wrong.".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_own_error_comes_back_by_type_and_is_not_repeated() {
        let error = CacheError::of_loader(std::io::Error::other("secret row"));
        assert_eq!(error.to_string(), "the value could not be loaded");
        let of_source = error
            .source()
            .and_then(|it| it.downcast_ref::<std::io::Error>());
        assert!(of_source.is_some());
        assert!(error.clone().downcast_ref::<std::io::Error>().is_some());
        assert!(!error.public_message().contains("secret"));
    }
}
