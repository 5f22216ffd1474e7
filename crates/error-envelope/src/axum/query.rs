//! The query of a request.

use ::axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;

use crate::{FieldError, Problem, shape};

/// The query of a request; like axum's own, but a rejection is a [`Problem`]: 400
/// `MALFORMED_REQUEST` with the parameter, in words that name no Rust type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "taken apart in a handler's arguments"
)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let pairs = serde_urlencoded::Deserializer::new(pairs);
        serde_path_to_error::deserialize(pairs)
            .map(Self)
            .map_err(|error| {
                let (key, message) = shape::parameter(&error.inner().to_string());
                let name = key.or_else(|| shape::last_key(error.path()));
                let problem = Problem::from_status(StatusCode::BAD_REQUEST);
                match name {
                    Some(name) => problem.with_field(FieldError::parameter(name, message)),
                    None => problem,
                }
            })
    }
}
