//! The parameters in the path of a request.

use ::axum::extract::{self, FromRequestParts, path::ErrorKind, rejection::PathRejection};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;

use crate::{FieldError, Problem, shape};

/// The parameters in the path of a request; like axum's own, but a rejection is a [`Problem`]: 400
/// `MALFORMED_REQUEST` with the parameter. A route that does not fit the type is a mistake in the
/// program, and the opaque 500.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "taken apart in a handler's arguments"
)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Path::from_request_parts(parts, state).await {
            Ok(extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(rejection)) => {
                Err(problem(rejection.into_kind()))
            }
            Err(rejection) => Err(Problem::internal(rejection)),
        }
    }
}

fn problem(kind: ErrorKind) -> Problem {
    let problem = Problem::from_status(StatusCode::BAD_REQUEST);
    let (name, message) = match kind {
        ErrorKind::ParseErrorAtKey {
            key, expected_type, ..
        } => (key, shape::wanted(expected_type)),
        ErrorKind::DeserializeError { key, .. } | ErrorKind::InvalidUtf8InPathParam { key } => {
            (key, "is not valid")
        }
        // A parameter by its place has no name that the caller knows.
        ErrorKind::ParseErrorAtIndex { .. }
        | ErrorKind::ParseError { .. }
        | ErrorKind::Message(_) => {
            return problem;
        }
        mistake => return Problem::internal(mistake.to_string()),
    };
    problem.with_field(FieldError::parameter(name, message))
}
