//! Problems and envelopes as axum responses.

use ::axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{Envelope, Format, Problem};

/// As JSON. It carries the problem, so that the layer can put it into the form which the caller
/// accepts.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.render(Format::Json).map(Body::from)
    }
}

/// With status 200, or another: `(StatusCode::CREATED, envelope)`.
///
/// Where it cannot be serialized it is the opaque 500. A status put before it in a tuple covers
/// that up; the layer uncovers it.
impl<T: Serialize> IntoResponse for Envelope<T> {
    fn into_response(self) -> Response {
        self.render().map(Body::from)
    }
}
