//! What a refusal says.

use buttress_core::Fault;
use http::{HeaderValue, Response, StatusCode, header};

/// Makes the response of a refusal. Every `Fn(&dyn Fault) -> Response<B>` is one: with
/// `buttress-error-envelope` and axum, `|fault: &dyn Fault| fault.to_problem().into_response()`.
///
/// The layer adds `Retry-After` and the fields that were asked for.
pub trait Respond<B> {
    /// The response.
    fn respond(&self, fault: &dyn Fault) -> Response<B>;
}

impl<B, F: Fn(&dyn Fault) -> Response<B>> Respond<B> for F {
    fn respond(&self, fault: &dyn Fault) -> Response<B> {
        self(fault)
    }
}

/// A minimal `application/problem+json` (RFC 9457), which caches must not store (RFC 6585, section 4).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ProblemJson {}

impl<B: From<String>> Respond<B> for ProblemJson {
    fn respond(&self, fault: &dyn Fault) -> Response<B> {
        let status = StatusCode::from_u16(fault.status())
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::json!({
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": fault.public_message(),
            "code": fault.code(),
        });
        let mut response = Response::new(B::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
        response
    }
}
