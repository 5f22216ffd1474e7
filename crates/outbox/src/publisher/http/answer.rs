//! What an answer says: of the message, or of the endpoint.

use std::time::{Duration, SystemTime};

use buttress_core::RetryAfter;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

use super::{Blame, client, connect::ConnectError};
use crate::PublishError;

/// The word of the endpoint.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    blame: Blame,
    now: SystemTime,
) -> Result<(), PublishError> {
    if status.is_success() {
        return Ok(());
    }
    let answered = format_args!("answered {}", status.as_u16());
    let error = match status.as_u16() {
        410 => return Err(PublishError::gone(answered)),
        // It is not followed: who moves an endpoint says so to whoever sends there.
        ..400 => PublishError::down(format_args!("{answered}, and no redirect is followed")),
        408 | 425 | 429 | 502..=504 => PublishError::down(answered),
        500.. if blame == Blame::Endpoint => PublishError::down(answered),
        _ => return Err(PublishError::refused(answered)),
    };
    Err(match retry_after(headers, now) {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    })
}

fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    RetryAfter::parse(value, now).map(RetryAfter::as_duration)
}

/// What it means that there was no answer. Nothing of the URL or of what was sent is in it.
pub(super) fn judge_failure(error: &client::Error) -> PublishError {
    if let Some(error) = client::connect_error(error) {
        return match error {
            ConnectError::Url => PublishError::refused_for_good(error),
            _ => PublishError::down(error),
        };
    }
    if error.is_connect() {
        return PublishError::down("no connection to the endpoint");
    }
    if client::is_no_http(error) {
        return PublishError::down("the endpoint's answer is no HTTP/1.1, or its head is too long");
    }
    // It may have arrived before the connection went.
    PublishError::unknown("the connection ended before there was an answer")
}

/// It was sent, or it was being sent, and nothing came back.
pub(super) fn late(timeout: Duration) -> PublishError {
    PublishError::down(format_args!("no answer within {timeout:?}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::PublishErrorKind::{Down, Gone, Refused};

    #[test]
    fn each_status_is_about_the_message_or_about_the_endpoint() {
        let judged = |status, blame| {
            let status = StatusCode::from_u16(status).unwrap();
            let judged = judge(status, &HeaderMap::new(), blame, SystemTime::UNIX_EPOCH);
            judged.err().map(|error| error.kind())
        };
        for (statuses, kind) in [
            (&[200, 201, 202, 204, 299][..], None),
            (&[101, 300, 301, 302, 303, 304, 307, 308], Some(Down)),
            (
                &[400, 401, 403, 404, 405, 409, 413, 415, 422, 431, 451],
                Some(Refused),
            ),
            (
                &[408, 425, 429, 500, 501, 502, 503, 504, 511, 599, 999],
                Some(Down),
            ),
            (&[410], Some(Gone)),
        ] {
            for status in statuses {
                assert_eq!(judged(*status, Blame::Endpoint), kind, "{status}");
            }
        }
        for (status, kind) in [(500, Refused), (501, Refused), (503, Down), (504, Down)] {
            assert_eq!(judged(status, Blame::Message), Some(kind), "{status}");
        }
    }

    #[test]
    fn a_retry_after_is_heeded_bounded_and_never_a_panic() {
        let wait = |status, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            let status = StatusCode::from_u16(status).unwrap();
            let judged = judge(status, &headers, Blame::Endpoint, SystemTime::UNIX_EPOCH);
            judged.unwrap_err().retry_after()
        };
        assert_eq!(wait(429, "7"), Some(Duration::from_secs(7)));
        assert_eq!(wait(503, "120"), Some(Duration::from_secs(120)));
        assert_eq!(wait(503, &"9".repeat(100)), Some(RetryAfter::MAX));
        let date = "Thu, 01 Jan 1970 00:01:30 GMT";
        assert_eq!(wait(503, date), Some(Duration::from_secs(90)));
        assert_eq!(wait(503, "soon"), None);
        assert_eq!(wait(400, "7"), None);
    }
}
