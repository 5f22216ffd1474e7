//! Places of a definition at which nothing is done: sleeps, and waits for signals.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Child, Input};

/// How long a sleep or a wait is, by the saga's input.
pub(crate) type Length = Arc<dyn Fn(&Input) -> Duration + Send + Sync>;

/// A place at which nothing is done.
#[derive(Clone)]
pub(crate) enum Pause {
    /// It sleeps for so long.
    Sleep(Length),
    /// It waits for a signal.
    Wait {
        within: Length,
        /// What a payload becomes as its output, if it is of the right type.
        takes: fn(&[u8]) -> Option<String>,
        /// Its output if nothing comes; `None`: then it has failed.
        missed: Option<&'static str>,
    },
    /// It waits for a child saga.
    Child(Child),
}

impl Pause {
    /// How long it is, if it is no child.
    pub(crate) const fn length(&self) -> Option<&Length> {
        match self {
            Self::Sleep(length) | Self::Wait { within: length, .. } => Some(length),
            Self::Child(_) => None,
        }
    }

    /// The same with a length that is made of its own.
    #[cfg(feature = "testing")]
    pub(crate) fn with_length(mut self, make: impl FnOnce(Length) -> Length) -> Self {
        if let Self::Sleep(length) | Self::Wait { within: length, .. } = &mut self {
            *length = make(Arc::clone(length));
        }
        self
    }

    /// What tells it from a step in the shape. No name has such bytes.
    pub(super) const fn mark(&self) -> &'static [u8] {
        match self {
            Self::Sleep(_) => b"\0sleep",
            Self::Child(_) => b"\0child",
            Self::Wait { missed: None, .. } => b"\0must",
            Self::Wait { .. } => b"\0wait",
        }
    }
}

/// What came of a [wait](crate::SagaBuilder::wait).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "one or the other")]
pub enum Waited<T> {
    /// This was sent in time.
    Came(T),
    /// Nothing was.
    TimedOut,
}

impl<T> Waited<T> {
    /// What was sent, if something was.
    #[must_use]
    pub fn came(self) -> Option<T> {
        match self {
            Self::Came(payload) => Some(payload),
            Self::TimedOut => None,
        }
    }
}

/// [`Waited::TimedOut`] as JSON.
pub(super) const TIMED_OUT: &str = "\"timed_out\"";

/// A payload that is of this type, as it is.
pub(super) fn taken<T: DeserializeOwned>(payload: &[u8]) -> Option<String> {
    serde_json::from_slice::<T>(payload).ok()?;
    String::from_utf8(payload.to_vec()).ok()
}
