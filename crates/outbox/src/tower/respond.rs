//! How a refusal looks outside.

use std::{fmt, sync::Arc};

use buttress_core::{Fault, PublicFault, RetryAfter};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;

type Respond = dyn Fn(&dyn Fault) -> Response<Bytes> + Send + Sync;

/// Makes a response of a fault.
#[derive(Clone)]
pub(super) struct Responder(Arc<Respond>);

impl Responder {
    pub(super) fn new(
        respond: impl Fn(&dyn Fault) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(respond))
    }

    pub(super) fn respond<B: From<Bytes>>(&self, fault: &dyn Fault) -> Response<B> {
        (self.0)(fault).map(B::from)
    }
}

impl Default for Responder {
    fn default() -> Self {
        Self::new(problem)
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

/// RFC 9457, and no more of it than everybody understands.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    code: &'static str,
    detail: &'a str,
}

fn problem(fault: &dyn Fault) -> Response<Bytes> {
    let status = StatusCode::from_u16(fault.status()).ok();
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let problem = Problem {
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        code: fault.code(),
        detail: &fault.public_message(),
    };
    // Texts and a number can always be written.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    // For a layer further out that renders all errors of the service in one shape.
    response.extensions_mut().insert(PublicFault::of(fault));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait) = fault.retry_after() {
        headers.insert(RETRY_AFTER, RetryAfter::from(wait).as_secs().into());
    }
    response
}
