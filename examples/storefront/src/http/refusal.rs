//! The rows of the contract's error table that are the shop's own.

use std::time::Duration;

use buttress_core::{Rejection, RejectionKind};
use buttress_error_envelope::{Problem, ToProblem};
use buttress_retry_backoff::Failure;
use http::HeaderMap;

use crate::{
    clients::{CallFailed, Unanswered},
    service::ChangeRefused,
};

/// A request that the shop understands and refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, ToProblem)]
pub(super) enum Refusal {
    /// No product has this id.
    #[error("no such product")]
    #[problem(
        code = "PRODUCT_NOT_FOUND",
        status = 404,
        message = "There is no such product."
    )]
    ProductNotFound,

    /// No order has this id.
    #[error("no such order")]
    #[problem(
        code = "ORDER_NOT_FOUND",
        status = 404,
        message = "There is no such order."
    )]
    OrderNotFound,

    /// `If-Match` names another version than the product has. Read it again, and decide anew.
    #[error("If-Match names another version")]
    #[problem(
        code = "VERSION_CONFLICT",
        status = 412,
        message = "The product has another version by now."
    )]
    VersionConflict,

    /// A body has at most 64 KiB.
    #[error("the body is too large")]
    #[problem(
        code = "PAYLOAD_TOO_LARGE",
        status = 413,
        message = "The body is larger than 64 KiB."
    )]
    TooLarge,

    /// A parameter of the query cannot be read or is out of range, the body is no JSON, or the
    /// cursor is none of this service's.
    #[error("the body could not be read")]
    #[problem(
        code = "MALFORMED_REQUEST",
        status = 400,
        message = "The body could not be read.",
        shared
    )]
    BodyLost,

    #[error("a parameter cannot be read or is out of range: {0}")]
    #[problem(code = "MALFORMED_REQUEST", status = 400, message = "{0}", shared)]
    Parameter(#[problem(public, example = "limit must be from 1 to 100.")] &'static str),

    #[error("the cursor was not issued here")]
    #[problem(
        code = "MALFORMED_REQUEST",
        status = 400,
        message = "This cursor was not issued by this service.",
        shared
    )]
    Cursor,

    /// The database does not answer, or the shop is about to stop.
    #[error("not ready to serve")]
    #[problem(
        code = "NOT_READY",
        status = 503,
        message = "The shop is not ready to serve.",
        retry_after = 1
    )]
    NotReady,

    /// The carrier answered with errors, or its connection failed, retries included.
    #[error("a service behind the shop failed")]
    #[problem(
        code = "UPSTREAM_FAILED",
        status = 502,
        message = "A service behind the shop failed."
    )]
    UpstreamFailed,

    /// The carrier did not answer in time, retries included.
    #[error("a service behind the shop did not answer in time")]
    #[problem(
        code = "UPSTREAM_TIMEOUT",
        status = 504,
        message = "A service behind the shop did not answer in time."
    )]
    UpstreamTimeout,

    /// The carrier has been failing, and is left alone for a while.
    #[error("a service behind the shop is left alone")]
    #[problem(
        code = "CIRCUIT_OPEN",
        status = 503,
        message = "A service behind this one is failing; calls to it are paused."
    )]
    CircuitOpen {
        #[problem(retry_after)]
        wait: Duration,
    },
}

/// A client who places orders faster than his rate. The fields `RateLimit` and `RateLimit-Policy`
/// say which it is.
#[derive(Debug, thiserror::Error, ToProblem)]
#[error("the client is faster than its rate")]
#[problem(code = "RATE_LIMITED", status = 429, message = "Too many requests.")]
pub(super) struct TooFast {
    #[problem(retry_after)]
    pub(super) wait: Option<Duration>,
    #[problem(headers)]
    pub(super) fields: HeaderMap,
    pub(super) source: Rejection,
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

impl ToProblem for Unanswered {
    fn to_problem(&self) -> Problem {
        match self.failure() {
            Failure::Failed(CallFailed::TimedOut) | Failure::TimedOut(_) => {
                Refusal::UpstreamTimeout.to_problem()
            }
            Failure::Failed(_) => Refusal::UpstreamFailed.to_problem(),
            Failure::Rejected(open) if open.kind() == RejectionKind::CircuitOpen => {
                // While a probe decides, the breaker cannot tell how long that takes. It is not
                // long.
                let wait = open.retry_after().unwrap_or(Duration::from_secs(1));
                Refusal::CircuitOpen { wait }.to_problem()
            }
            Failure::Rejected(other) => other.to_problem(),
        }
    }
}
