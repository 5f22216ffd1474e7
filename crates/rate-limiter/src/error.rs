//! What can be wrong with a policy. That a call is refused is `Decision`, or `buttress_core::Rejection`.

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
