//! How a refusal leaves when nobody chose another way.

use buttress_core::{Fault, PublicFault, RetryAfter};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use crate::http::HttpRefusal;

/// A minimal problem (RFC 9457) with the refusal's `code`.
pub(super) fn render(refusal: &HttpRefusal) -> Response<Bytes> {
    let status = StatusCode::from_u16(refusal.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "code": refusal.code(),
        "detail": refusal.public_message(),
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    // For a layer further out that renders all errors of the service in one shape.
    response.extensions_mut().insert(PublicFault::of(refusal));
    let headers = response.headers_mut();
    let problem = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, problem);
    if let Some(wait) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, RetryAfter::from(wait).as_secs().into());
    }
    response
}
