//! One request and the response to it, from the outside.

use std::sync::Arc;

use buttress_core::{Fault, PublicFault};
use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, VARY},
    response,
};
use http_body::Body;
use tracing::Span;

use super::{BoxError, RequestId, ResponseBody, Verbatim, log, rules::Rules};
use crate::{Format, Problem, ToProblem, render::describes_body};

/// Marks a request that is inside the layer already.
#[derive(Clone, Copy)]
struct Inside;

/// What is kept of a request until its response is there.
pub(super) struct Exchange {
    rules: Arc<Rules>,
    /// `None` within another such layer, which does all that is seen from the outside.
    outermost: Option<Outermost>,
    span: Span,
}

struct Outermost {
    id: RequestId,
    format: Format,
    is_head: bool,
    shows_causes: bool,
}

impl Exchange {
    pub(super) fn begin<B>(rules: Arc<Rules>, request: &mut Request<B>) -> Self {
        if request.extensions().get::<Inside>().is_some() {
            return Self {
                rules,
                outermost: None,
                span: Span::none(),
            };
        }
        let id = RequestId::of(request.headers());
        // An error's line must be found by its request whatever level the log is set to.
        let span = tracing::error_span!(
            "request",
            request_id = id.as_str(),
            method = request.method().as_str(),
            path = request.uri().path(),
        );
        let outermost = Outermost {
            id: id.clone(),
            format: Format::negotiate(request.headers()),
            is_head: request.method() == Method::HEAD,
            shows_causes: rules.shows_causes(request.headers()),
        };
        id.write(request.headers_mut());
        request.extensions_mut().insert(id);
        request.extensions_mut().insert(Inside);
        Self {
            rules,
            outermost: Some(outermost),
            span,
        }
    }

    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    /// The response that leaves. What came is a response, or a problem, or an error of which a
    /// problem is to be made.
    pub(super) fn end<B: Body<Data = Bytes>>(
        self,
        outcome: Result<Response<B>, Result<Problem, BoxError>>,
    ) -> Response<ResponseBody<B>> {
        let (mut parts, body) = match outcome {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                (parts, ResponseBody::sent(body))
            }
            Err(failure) => {
                let problem = failure.unwrap_or_else(|error| self.rules.for_error(error));
                let (mut parts, ()) = Response::new(()).into_parts();
                parts.extensions.insert(problem);
                (parts, ResponseBody::empty())
            }
        };
        let problem = self.problem(&mut parts);
        let Some(outermost) = self.outermost else {
            return Response::from_parts(parts, body);
        };
        let body = match problem {
            Some(problem) => {
                self.span.in_scope(|| log::tell(&problem));
                let problem = self
                    .rules
                    .finish(problem, outermost.format, outermost.shows_causes);
                replace(&mut parts, &problem, outermost.format)
            }
            None => body,
        };
        outermost.id.write(&mut parts.headers);
        let body = without_body(&mut parts, body, outermost.is_head);
        Response::from_parts(parts, body)
    }

    /// The problem that this response is, if it is an error; kept in the extensions for whoever is
    /// further out.
    fn problem(&self, parts: &mut response::Parts) -> Option<Problem> {
        if parts.extensions.get::<Verbatim>().is_some() {
            return None;
        }
        let is_error = parts.status.is_client_error() || parts.status.is_server_error();
        let problem = match parts.extensions.remove::<Problem>() {
            // The status on the line is what the caller goes by (RFC 9457, section 3.1.2), and
            // somebody chose it: `(StatusCode::CONFLICT, problem)`.
            Some(problem) if is_error && problem.status() != parts.status => {
                problem.with_status(parts.status)
            }
            // A problem with the status of a success is an accident: `(StatusCode::CREATED,
            // envelope)` where the envelope could not be serialized.
            Some(problem) => problem,
            // What a layer within answered itself: with its code, not with that of its status.
            None if is_error => match parts.extensions.remove::<PublicFault>() {
                Some(fault) if fault.status() == parts.status.as_u16() => fault.to_problem(),
                _ => self.rules.for_status(parts.status),
            },
            None => return None,
        };
        parts.status = problem.status();
        parts.extensions.insert(problem.clone());
        Some(problem)
    }
}

/// Puts the problem in the place of what was sent. Of the headers, those stay that do not speak of
/// the old body, and whatever a layer within said about caching.
fn replace<B>(parts: &mut response::Parts, problem: &Problem, format: Format) -> ResponseBody<B> {
    let (rendered, bytes) = problem.render(format).into_parts();
    let stale: Vec<_> = parts
        .headers
        .keys()
        .filter(|name| describes_body(name))
        .cloned()
        .collect();
    for name in stale {
        parts.headers.remove(name);
    }
    for name in rendered.headers.keys() {
        let values = rendered.headers.get_all(name);
        if *name == VARY {
            for value in values {
                vary(&mut parts.headers, value);
            }
        } else if *name != CACHE_CONTROL || !parts.headers.contains_key(CACHE_CONTROL) {
            parts.headers.remove(name);
            for value in values {
                parts.headers.append(name, value.clone());
            }
        }
    }
    ResponseBody::ours(bytes)
}

/// Adds to `Vary` what is not in it.
fn vary(headers: &mut HeaderMap, value: &http::HeaderValue) {
    let is_there = headers.get_all(VARY).iter().any(|old| {
        old.as_bytes()
            .split(|byte| *byte == b',')
            .any(|name| name.trim_ascii().eq_ignore_ascii_case(value.as_bytes()))
    });
    if !is_there {
        headers.append(VARY, value.clone());
    }
}

/// HEAD, 204 and 304 carry no body (RFC 9110, sections 9.3.2, 15.3.5 and 15.4.5).
fn without_body<B: Body<Data = Bytes>>(
    parts: &mut response::Parts,
    body: ResponseBody<B>,
    is_head: bool,
) -> ResponseBody<B> {
    match parts.status {
        StatusCode::NO_CONTENT => {
            // Section 8.6: not even a length.
            parts.headers.remove(CONTENT_LENGTH);
            ResponseBody::empty()
        }
        StatusCode::NOT_MODIFIED => ResponseBody::empty(),
        _ if is_head => {
            // Whoever took the body away already has said its length, if he knew it.
            let length = body.size_hint().exact().filter(|length| *length > 0);
            if let Some(length) = length {
                let entry = parts.headers.entry(CONTENT_LENGTH);
                entry.or_insert(length.into());
            }
            ResponseBody::empty()
        }
        _ => body,
    }
}
