//! What can be wrong with a request for a page, and with how pages were set up.

use std::error::Error;

use http::StatusCode;

use crate::{FieldError, Problem, ToProblem};

/// Pages that cannot be as they were set up, refused when they are built: which field, and what it
/// must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{field} must be {range}")]
pub struct PagesError {
    field: &'static str,
    range: &'static str,
}

impl PagesError {
    pub(super) const fn new(field: &'static str, range: &'static str) -> Self {
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

/// Why there is no page. As a [`Problem`]: 400 `MALFORMED_REQUEST` with the parameter, or the
/// opaque 500 where the caller has no part in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// More than a page may have was asked for, or less than one.
    #[error("the limit is not from 1 to {most}")]
    Limit {
        /// How many it may be.
        most: u32,
    },
    /// The cursor was not issued here, or for another list or filter, or it was changed. The caller
    /// begins again with the first page.
    #[error("the cursor was not issued for this list")]
    Cursor,
    /// A filter or the key of a row cannot be written as JSON, or is longer than 512 bytes so.
    #[error("a cursor cannot be made")]
    Unwritable(#[source] Box<dyn Error + Send + Sync>),
}

impl ToProblem for PageError {
    fn to_problem(&self) -> Problem {
        let refused = |message: String, field| {
            Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", message).with_field(field)
        };
        match self {
            Self::Limit { most } => {
                let range = format!("must be from 1 to {most}");
                let message = format!("limit {range}.");
                let field = FieldError::parameter("limit", range);
                refused(message, field.with_code("OUT_OF_RANGE"))
            }
            Self::Cursor => {
                let field = FieldError::parameter("cursor", "was not issued for this list");
                let message = "This cursor was not issued by this service for this list.";
                refused(message.to_owned(), field.with_code("INVALID_CURSOR"))
            }
            Self::Unwritable(_) => Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}
