//! What a problem looks like when it leaves.

use std::time::Duration;

use buttress_core::{Class, classify::http::by_status};
use buttress_error_envelope::{FieldError, FieldErrors, Format, Problem};
use http::{
    HeaderValue, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
    },
};
use serde_json::{Value, json};

pub(crate) const FORMATS: [Format; 3] = [Format::Json, Format::ProblemJson, Format::RpcStatus];

pub(crate) fn shown(problem: &Problem, format: Format) -> Value {
    serde_json::from_slice(problem.render(format).body()).unwrap()
}

#[test]
fn an_error_says_its_type_and_length_and_that_it_depends_on_accept() {
    let problem = Problem::new(429, "RATE_LIMITED", "Too many.")
        .with_retry_after(Duration::from_millis(1))
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"))
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        .with_header(VARY, HeaderValue::from_static("origin"))
        .with_header(CONTENT_TYPE, HeaderValue::from_static("text/html"))
        .with_header(CONTENT_ENCODING, HeaderValue::from_static("gzip"))
        .with_header(RETRY_AFTER, HeaderValue::from_static("77"));
    for format in FORMATS {
        let response = problem.render(format);
        let headers = response.headers();
        assert_eq!(response.status(), 429);
        assert_eq!(headers["content-type"], format.media_type());
        assert_eq!(headers["content-length"], response.body().len().to_string());
        assert_eq!(headers["retry-after"], "1");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
        let vary: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["origin", "accept"]);
        assert_eq!(headers.get_all(WWW_AUTHENTICATE).iter().count(), 2);
        assert_eq!(headers.get_all(CONTENT_TYPE).iter().count(), 1);
        assert!(!headers.contains_key(CONTENT_ENCODING));
    }
}

#[test]
fn the_author_may_say_how_long_an_error_may_be_kept() {
    let gone = Problem::from_status(StatusCode::GONE)
        .with_header(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    assert_eq!(
        gone.render(Format::Json).headers()["cache-control"],
        "max-age=60"
    );
}

#[test]
fn no_number_of_headers_makes_it_panic() {
    let mut problem = Problem::from_status(StatusCode::METHOD_NOT_ALLOWED);
    for _ in 0..40_000 {
        problem = problem.with_header(ALLOW, HeaderValue::from_static("GET"));
    }
    assert_eq!(problem.headers().len(), 64);
    assert!(problem.render(Format::Json).headers().len() < 80);
}

#[test]
fn a_status_that_is_no_error_becomes_500() {
    for status in [0, 1, 100, 200, 204, 304, 399, 600, 999, 1000, u16::MAX] {
        let problem = Problem::new(status, "ODD", "Odd.");
        assert_eq!(problem.status(), 500, "{status}");
        let changed = Problem::new(404, "ODD", "Odd.").with_status(status);
        assert_eq!(changed.status(), 500, "{status}");
    }
    assert_eq!(Problem::from_status(StatusCode::OK).code(), "INTERNAL");
    assert_eq!(
        Problem::new(StatusCode::CONFLICT, "ODD", "Odd.").status(),
        409
    );
}

#[test]
fn the_last_extension_of_one_name_stands() {
    let problem = Problem::new(409, "CONFLICT", "No.")
        .with_extension("version", 1)
        .with_extension("version", 2);
    assert_eq!(shown(&problem, Format::ProblemJson)["version"], 2);
    assert_eq!(
        shown(&problem, Format::Json)["error"]["details"],
        json!({"version": 2})
    );
}

#[test]
fn details_are_left_out_where_there_are_none() {
    let body = shown(&Problem::from_status(StatusCode::NOT_FOUND), Format::Json);
    assert_eq!(
        body,
        json!({"success": false, "error": {
            "code": "ROUTE_NOT_FOUND",
            "message": "There is nothing at this address.",
        }})
    );
}

#[test]
fn field_errors_name_their_source_and_those_of_one_path_are_joined() {
    let wrong: FieldErrors = [
        FieldError::pointer("/items/0/quantity", "must be at least 1").with_code("RANGE"),
        FieldError::pointer("/items/0/quantity", "must be even"),
        FieldError::pointer("", "must not be empty"),
        FieldError::parameter("limit", "must be an integer"),
        FieldError::header("Idempotency-Key", "is required"),
    ]
    .into_iter()
    .collect();
    let problem = Problem::from(wrong);
    assert_eq!(
        shown(&problem, Format::Json)["error"]["details"],
        json!({
            "$": "must not be empty",
            "Idempotency-Key": "is required",
            "items[0].quantity": "must be at least 1; must be even",
            "limit": "must be an integer",
        })
    );
    assert_eq!(
        shown(&problem, Format::ProblemJson)["errors"],
        json!([
            {"detail": "must be at least 1", "pointer": "#/items/0/quantity", "code": "RANGE"},
            {"detail": "must be even", "pointer": "#/items/0/quantity"},
            {"detail": "must not be empty", "pointer": "#"},
            {"detail": "must be an integer", "parameter": "limit"},
            {"detail": "is required", "header": "Idempotency-Key"},
        ])
    );
}

#[test]
fn ee5_what_is_called_retryable_is_what_a_retry_tries_again() {
    let tally = buttress_testkit::tally::suite("EE5");
    for number in 400..600 {
        let status = StatusCode::from_u16(number).unwrap();
        let problem = Problem::from_status(status);
        let verdict = by_status(status, &http::HeaderMap::new());
        if problem.is_retryable() {
            assert_ne!(verdict.class(), Class::Final, "{number}");
        } else {
            // Of a 500 and its like nobody knows; what was not done is always called retryable.
            assert_ne!(verdict.class(), Class::NotDone, "{number}");
        }
    }
    let locked = Problem::new(423, "LOCKED", "Locked.");
    assert!(!locked.is_retryable());
    assert!(locked.clone().with_retryable(true).is_retryable());
    assert!(
        locked
            .with_retry_after(Duration::from_secs(1))
            .is_retryable()
    );
    tally.operations(200);
}
