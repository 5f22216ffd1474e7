//! A policy that cannot work.

use std::borrow::Cow;

use buttress_core::Fault;

/// A policy that cannot work: the field, and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: not {range}")]
pub struct PolicyError {
    field: &'static str,
    range: &'static str,
}

impl PolicyError {
    pub(crate) const fn new(field: &'static str, range: &'static str) -> Self {
        Self { field, range }
    }

    /// Which knob.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What it may be.
    #[must_use]
    pub const fn range(&self) -> &'static str {
        self.range
    }
}

impl Fault for PolicyError {
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
