//! The rows of the contract's error table that handlers speak of themselves.

use std::borrow::Cow;

use buttress_core::Fault;
use buttress_error_envelope::{Problem, ToProblem};
use http::StatusCode;

use crate::service::ChangeRefused;

/// A request that the shop understands and refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no such product")]
    ProductNotFound,
    #[error("no such order")]
    OrderNotFound,
    #[error("If-Match names another version")]
    VersionConflict,
    #[error("the body is too large")]
    TooLarge,
    #[error("the body could not be read")]
    BodyLost,
    #[error("a parameter cannot be read or is out of range: {0}")]
    Parameter(&'static str),
    #[error("the cursor was not issued here")]
    Cursor,
    #[error("not ready to serve")]
    NotReady,
}

impl Fault for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::ProductNotFound => "PRODUCT_NOT_FOUND",
            Self::OrderNotFound => "ORDER_NOT_FOUND",
            Self::VersionConflict => "VERSION_CONFLICT",
            Self::TooLarge => "PAYLOAD_TOO_LARGE",
            Self::BodyLost | Self::Parameter(_) | Self::Cursor => "MALFORMED_REQUEST",
            Self::NotReady => "NOT_READY",
        }
    }

    fn status(&self) -> u16 {
        let status = match self {
            Self::ProductNotFound | Self::OrderNotFound => StatusCode::NOT_FOUND,
            Self::VersionConflict => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyLost | Self::Parameter(_) | Self::Cursor => StatusCode::BAD_REQUEST,
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        };
        status.as_u16()
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::ProductNotFound => "There is no such product.".into(),
            Self::OrderNotFound => "There is no such order.".into(),
            Self::VersionConflict => "The product has another version by now.".into(),
            Self::TooLarge => "The body is larger than 64 KiB.".into(),
            Self::BodyLost => "The body could not be read.".into(),
            Self::Parameter(rule) => (*rule).into(),
            Self::Cursor => "This cursor was not issued by this service.".into(),
            Self::NotReady => "The shop is not ready to serve.".into(),
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        (*self == Self::NotReady).then_some(std::time::Duration::from_secs(1))
    }
}

impl ToProblem for ChangeRefused {
    fn to_problem(&self) -> Problem {
        match self {
            Self::NotFound => Refusal::ProductNotFound.to_problem(),
            Self::VersionConflict => Refusal::VersionConflict.to_problem(),
            Self::Store(error) => error.to_problem(),
        }
    }
}
