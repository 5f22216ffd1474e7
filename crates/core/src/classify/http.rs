//! HTTP: which status means what, which requests may be sent twice, and when to come back.

use std::{error::Error, io, time::SystemTime};

use http::{HeaderMap, Method, Response, StatusCode, header::RETRY_AFTER};

use crate::{Classify, RetryAfter, Verdict};

/// Judges a response by its status, and reads its `Retry-After` (with 429 and 503).
///
/// | status | verdict |
/// | --- | --- |
/// | 1xx, 2xx, 3xx | success |
/// | 408, 425, 429 | not done: the server says that it did not begin |
/// | 5xx but the next two | unknown: a proxy may have passed it on before it gave up |
/// | 501, 505 | final |
/// | other 4xx | final |
///
/// An error of the transport is unknown, unless a refused connection is among its causes: then
/// nothing was sent, so it was not done.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct ByStatus;

impl<B, E: Error + 'static> Classify<Response<B>, E> for ByStatus {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => by_status(response.status(), response.headers()),
            Err(error) if was_refused(error) => Verdict::not_done(),
            Err(_) => Verdict::unknown(),
        }
    }
}

/// What this response says, by the table of [`ByStatus`].
#[must_use]
pub fn by_status(status: StatusCode, headers: &HeaderMap) -> Verdict {
    let verdict = match status.as_u16() {
        ..400 => Verdict::success(),
        408 | 425 | 429 => Verdict::not_done(),
        501 | 505 => Verdict::broken(),
        400..=499 => Verdict::refused(),
        _ => Verdict::unknown(),
    };
    match (status.as_u16(), asked(headers)) {
        (429 | 503, Some(asked)) => verdict.with_retry_after(asked.as_duration()),
        _ => verdict,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an HTTP date is one of the wall clock: what reads a header is the edge for it"
)]
fn asked(headers: &HeaderMap) -> Option<RetryAfter> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    RetryAfter::parse(value, SystemTime::now())
}

fn was_refused(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| {
        (*error).source()
    });
    // An error may be its own cause.
    causes.take(16).any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// Whether a request may be sent twice with one effect: by its method (RFC 9110, section 9.2.2), or
/// because it has an `Idempotency-Key`.
#[must_use]
pub fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method)
        || headers
            .get("idempotency-key")
            .is_some_and(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::Class;

    #[test]
    fn each_status_has_its_class() {
        for (status, class) in [
            (200, Class::Done),
            (302, Class::Done),
            (400, Class::Final),
            (404, Class::Final),
            (408, Class::NotDone),
            (425, Class::NotDone),
            (429, Class::NotDone),
            (500, Class::Unknown),
            (501, Class::Final),
            (503, Class::Unknown),
            (505, Class::Final),
            (599, Class::Unknown),
            (999, Class::Unknown),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                by_status(status, &HeaderMap::new()).class(),
                class,
                "{status}"
            );
        }
    }

    #[test]
    fn retry_after_is_read_where_it_has_a_meaning_and_can_be_read() {
        for (status, value, expected) in [
            (429, "7", Some(7)),
            (503, "7", Some(7)),
            (503, "Sun, 06 Nov 1994 08:49:37 GMT", Some(1)),
            (500, "7", None),
            (503, "soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            let verdict = by_status(StatusCode::from_u16(status).unwrap(), &headers);
            assert_eq!(
                verdict.retry_after(),
                expected.map(Duration::from_secs),
                "{status} {value}"
            );
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("transport")]
    struct Transport(#[source] io::Error);

    #[test]
    fn only_a_refused_connection_is_known_not_to_have_sent_anything() {
        for (kind, class) in [
            (io::ErrorKind::ConnectionRefused, Class::NotDone),
            (io::ErrorKind::ConnectionReset, Class::Unknown),
        ] {
            let error = Transport(io::Error::from(kind));
            let verdict = ByStatus.classify(Err::<&Response<()>, _>(&error));
            assert_eq!(verdict.class(), class, "{kind}");
        }
    }

    #[test]
    fn a_key_makes_a_post_idempotent_and_an_empty_one_does_not() {
        let key = |value| HeaderMap::from_iter([("idempotency-key".parse().unwrap(), value)]);
        let none = HeaderMap::new();
        assert!(is_idempotent(&Method::PUT, &none) && is_idempotent(&Method::GET, &none));
        assert!(!is_idempotent(&Method::POST, &none) && !is_idempotent(&Method::PATCH, &none));
        assert!(is_idempotent(
            &Method::POST,
            &key(HeaderValue::from_static("a"))
        ));
        assert!(!is_idempotent(
            &Method::POST,
            &key(HeaderValue::from_static(""))
        ));
    }
}
