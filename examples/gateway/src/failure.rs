//! Why an attempt has no answer, and what the caller of the gateway is told.

use std::borrow::Cow;

use buttress_core::Fault;

/// An attempt that no answer came of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptFailed {
    #[error("the answer did not begin in time")]
    TimedOut,
    #[error("the upstream could not be asked")]
    Transport(#[source] hyper_util::client::legacy::Error),
    #[error("the request cannot be passed on")]
    Request(#[source] http::Error),
}

impl AttemptFailed {
    pub(crate) const fn request(error: http::Error) -> Self {
        Self::Request(error)
    }
}

impl Fault for AttemptFailed {
    fn code(&self) -> &'static str {
        match self {
            Self::TimedOut => "UPSTREAM_TIMEOUT",
            Self::Transport(_) => "UPSTREAM_FAILED",
            Self::Request(_) => "MALFORMED_REQUEST",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::TimedOut => 504,
            Self::Transport(_) => 502,
            Self::Request(_) => 400,
        }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::TimedOut => "A service behind this one did not answer in time.",
            Self::Transport(_) => "A service behind this one could not be reached.",
            Self::Request(_) => "This request cannot be passed on.",
        }
        .into()
    }
}
