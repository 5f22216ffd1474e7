//! What an upstream's answer says: by its status, and where it is gRPC's, by its code.

use axum::body::Body;
use buttress_circuit_breaker::http::ByStatus;
use buttress_core::{Classify, Verdict};
use http::{HeaderMap, Response, header};
use tonic::{Code, Status};

use crate::failure::AttemptFailed;

/// Judges the answers of upstreams, for breakers, retries and hedges alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByAnswer;

impl<B> Classify<Response<B>, AttemptFailed> for ByAnswer {
    fn classify(&self, result: Result<&Response<B>, &AttemptFailed>) -> Verdict {
        match result {
            Ok(response) if is_grpc(response.headers()) => by_code(response.headers()),
            Err(AttemptFailed::TimedOut) => Verdict::unknown(),
            Err(AttemptFailed::Request(_)) => Verdict::ignored(),
            other => ByStatus.classify(other),
        }
    }
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

/// A status in the headers is that of a call which ended before it began to answer. One that ends in
/// trailers has answered, and is the caller's to judge.
fn by_code(headers: &HeaderMap) -> Verdict {
    let Some(status) = Status::from_header_map(headers) else {
        return Verdict::success();
    };
    let judged: Result<&(), _> = Err(&status);
    match status.code() {
        Code::Ok => Verdict::success(),
        _ => buttress_core::classify::tonic::ByCode.classify(judged),
    }
}

/// What went wrong here, as gRPC says it: the status is in the headers, and there is no body.
pub(crate) fn as_grpc(status: u16, message: &str) -> Response<Body> {
    let code = match status {
        400 => Code::Internal,
        429 => Code::ResourceExhausted,
        504 => Code::DeadlineExceeded,
        _ => Code::Unavailable,
    };
    Status::new(code, message).into_http()
}
