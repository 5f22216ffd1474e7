//! A problem as an HTTP response.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{
        CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};

use crate::{Format, Problem, body};

impl Problem {
    /// The response in this form.
    ///
    /// It has `Content-Type`, `Content-Length`, `Vary: Accept`, `Retry-After` if a time is known,
    /// `X-Content-Type-Options: nosniff` (a message may hold what looks like HTML),
    /// `Cache-Control: no-store` unless [`Problem::with_header`] said otherwise (a 404 may be kept
    /// by a cache without being asked: RFC 9110, section 15.1), and the headers that were added.
    ///
    /// The body is valid JSON of at most [`MAX_BODY`](crate::MAX_BODY) bytes. What does not fit is cut or left out,
    /// and `"truncated": true` says so.
    ///
    /// The problem itself is put into the response's extensions, where the layer finds it and
    /// renders it again in the form that the caller asked for.
    #[must_use]
    pub fn render(&self, format: Format) -> Response<Bytes> {
        let body = body::of(self, format);
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        *response.headers_mut() = self.response_headers(format, response.body().len());
        response.extensions_mut().insert(self.clone());
        response
    }

    fn response_headers(&self, format: Format, length: usize) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(6 + self.headers().len());
        for (name, value) in self.headers() {
            if !describes_body(name) {
                headers.append(name, value.clone());
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.append(VARY, HeaderValue::from_static("accept"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after() {
            headers.insert(RETRY_AFTER, wait.as_secs().into());
        }
        headers
    }
}

/// Whether a header field speaks of the body that it came with, and is wrong for another one
/// (RFC 9110, section 8; RFC 9112, section 6; RFC 9530).
pub(crate) fn describes_body(name: &HeaderName) -> bool {
    const OTHERS: [&str; 8] = [
        "accept-ranges",
        "digest",
        "etag",
        "last-modified",
        "repr-digest",
        "trailer",
        "transfer-encoding",
        "x-content-type-options",
    ];
    let name = name.as_str();
    let content = name.starts_with("content-") && !name.starts_with("content-security-policy");
    content || OTHERS.contains(&name)
}
