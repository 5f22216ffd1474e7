//! The errors of other services in each form, read back.

use std::time::Duration;

use buttress_core::{Class, Classify, Fault, Outcome, classify::http::by_status};
use buttress_error_envelope::{
    FieldError, Format, Problem,
    client::{ByRemote, RemoteForm, RemoteProblem},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const PROBLEM: (&str, &str) = ("content-type", "application/problem+json");

pub(crate) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

pub(crate) fn read(status: u16, fields: &[(&str, &str)], body: &Value) -> RemoteProblem {
    let status = StatusCode::from_u16(status).unwrap();
    RemoteProblem::from_parts(status, &headers(fields), body.to_string().as_bytes())
}

#[test]
fn the_envelope_is_read_with_its_fields_or_its_extensions() {
    let body = json!({"success": false, "error": {
        "code": "VALIDATION_FAILED", "message": "The request is not valid.",
        "details": {"items[0].quantity": "must be at least 1", "$": "is odd"}, "truncated": true,
    }});
    let problem = read(422, &[JSON], &body);
    assert_eq!(problem.form(), RemoteForm::Envelope);
    assert_eq!(problem.code(), Some("VALIDATION_FAILED"));
    assert_eq!(problem.detail(), Some("The request is not valid."));
    assert!(!problem.is_complete());
    let fields: Vec<_> = problem
        .fields()
        .iter()
        .map(|it| (it.path(), it.message()))
        .collect();
    assert_eq!(
        fields,
        [
            ("$".into(), "is odd"),
            ("items[0].quantity".into(), "must be at least 1"),
        ]
    );
    assert!(problem.extensions().is_empty());

    // With a status that says nothing about the content, details are extensions.
    let body = json!({"success": false, "error": {
        "code": "OUT_OF_CREDIT", "message": "No.", "details": {"currency": "EUR", "balance": 30},
    }});
    for status in [403, 422] {
        let problem = read(status, &[JSON], &body);
        assert_eq!(problem.extensions()["balance"], 30, "{status}");
        assert!(problem.fields().is_empty() && problem.is_complete());
    }
}

#[test]
fn google_rpc_is_read_as_http_gateways_write_it_and_bare() {
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RESOURCE_AVAILABILITY",
            "domain": "compute.googleapis.com", "metadata": {"zone": "us-east1-a"}},
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [
            {"field": "instance.disks[0].size", "description": "must be positive", "reason": "SIZE"},
            {"field": "name"}, 7,
        ]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"},
        {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r-7"},
        {"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": "c4n4ry"},
        {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
        {"@type": "example.com/own"},
    ]);
    let within = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED",
        "message": "No.", "details": details}});
    let bare = json!({"code": 8, "message": "No.", "details": details});
    for (body, advisory) in [(within, Some(429)), (bare, None)] {
        let problem = read(429, &[JSON], &body);
        assert_eq!(problem.form(), RemoteForm::GoogleRpc);
        assert_eq!(problem.code(), Some("RESOURCE_AVAILABILITY"));
        assert_eq!(problem.domain(), Some("compute.googleapis.com"));
        assert_eq!(problem.advisory_status(), advisory);
        assert_eq!(problem.extensions()["zone"], "us-east1-a");
        let [help, own] = &problem.extensions()["details"].as_array().unwrap()[..] else {
            panic!("two that are not known: {problem:?}")
        };
        assert_eq!(help["links"], json!([]));
        assert_eq!(own["@type"], "example.com/own");
        assert_eq!(problem.request_id(), Some("r-7"));
        assert_eq!(problem.retry_after(), Some(Duration::from_secs(2).into()));
        let expected = FieldError::pointer("/instance/disks/0/size", "must be positive");
        assert_eq!(problem.fields(), [expected.with_code("SIZE")]);
    }
    let plain = json!({"error": {"code": 404, "message": "None.", "status": "NOT_FOUND"}});
    assert_eq!(read(404, &[JSON], &plain).code(), Some("NOT_FOUND"));
    let plain = json!({"code": 5, "message": "None.", "details": []});
    assert_eq!(read(404, &[], &plain).code(), Some("NOT_FOUND"));
}

#[test]
fn a_delay_that_cannot_be_read_is_none_and_a_long_one_is_cut() {
    for (delay, expected) in [
        ("0s", Some(1)),
        ("0.000000001s", Some(1)),
        ("3s", Some(3)),
        ("3.s", Some(3)),
        ("99999999999999999999999s", Some(86_400)),
        ("-1s", None),
        ("3", None),
        ("s", None),
        (".5s", None),
        ("1.0000000001s", None),
        ("1e3s", None),
        ("1.5.5s", None),
        ("٣s", None),
    ] {
        let body = json!({"error": {"code": 503, "message": "", "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]}});
        let wait = read(503, &[JSON], &body).retry_after();
        assert_eq!(
            wait.map(buttress_core::RetryAfter::as_secs),
            expected,
            "{delay}"
        );
    }
}

#[test]
fn which_form_it_is_the_type_of_the_content_says_and_else_its_members() {
    let problem = json!({"title": "Gone"});
    let envelope = json!({"success": false, "error": {"code": "GONE", "message": ""}});
    let html = ("content-type", "text/html");
    let vendor = (
        "content-type",
        "application/vnd.shop.v2+json; charset=utf-8",
    );
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a Value, RemoteForm);
    let table: [Case<'_>; 12] = [
        (&[PROBLEM], &problem, RemoteForm::ProblemJson),
        (&[JSON], &problem, RemoteForm::ProblemJson),
        (&[], &problem, RemoteForm::ProblemJson),
        (&[vendor], &problem, RemoteForm::ProblemJson),
        (&[html], &problem, RemoteForm::Unknown),
        (&[JSON], &envelope, RemoteForm::Envelope),
        (&[vendor], &envelope, RemoteForm::Envelope),
        // What calls itself a problem is one.
        (&[PROBLEM], &envelope, RemoteForm::ProblemJson),
        (
            &[JSON],
            &json!({"error": "invalid_grant"}),
            RemoteForm::Unknown,
        ),
        (&[JSON], &json!({"message": "no"}), RemoteForm::Unknown),
        (
            &[JSON],
            &json!({"error": {"message": "no"}}),
            RemoteForm::Unknown,
        ),
        (&[JSON], &json!([problem]), RemoteForm::Unknown),
    ];
    for (fields, body, form) in table {
        assert_eq!(read(410, fields, body).form(), form, "{fields:?} {body}");
    }
}

#[test]
fn a_date_is_taken_relative_to_the_other_hosts_own_clock() {
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let wait = |fields: &[(&str, &str)]| {
        let problem = read(503, fields, &json!({}));
        problem
            .retry_after()
            .map(buttress_core::RetryAfter::as_secs)
    };
    let later = ("retry-after", "Sun, 06 Nov 1994 08:51:07 GMT");
    assert_eq!(wait(&[date, later]), Some(90));
    // By this host's clock that is long over.
    assert_eq!(wait(&[later]), Some(1));
    assert_eq!(wait(&[("date", "yesterday"), later]), Some(1));
    assert_eq!(wait(&[date, ("retry-after", "7")]), Some(7));
    assert_eq!(wait(&[("retry-after", "1e308")]), None);
    assert_eq!(wait(&[("retry-after", "-1")]), None);
    assert_eq!(wait(&[("retry-after", &"9".repeat(20_000))]), Some(86_400));
}

#[test]
fn ee5_it_is_judged_as_its_status_is_whatever_the_body_says() {
    let tally = buttress_testkit::tally::suite("EE5");
    for number in 400..1000 {
        let status = StatusCode::from_u16(number).unwrap();
        for body in [
            json!({}),
            json!({"status": 429, "retryable": true, "code": "UNAVAILABLE"}),
            json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": ""}}),
        ] {
            let problem = read(number, &[PROBLEM, ("retry-after", "7")], &body);
            let expected = by_status(status, &headers(&[("retry-after", "7")]));
            assert_eq!(problem.verdict(), expected, "{number} {body}");
            assert_eq!(ByRemote.classify(Err::<&(), _>(&problem)), expected);
        }
    }
    assert_eq!(
        ByRemote.classify(Ok::<_, &RemoteProblem>(&())).class(),
        Class::Done
    );
    let odd = read(
        200,
        &[JSON],
        &json!({"success": false, "error": {"code": "A", "message": ""}}),
    );
    assert_eq!(
        (odd.verdict().outcome(), odd.verdict().class()),
        (Outcome::Failure, Class::Unknown)
    );
    tally.operations(600 * 3);
}

#[test]
fn it_leaves_as_a_failure_of_the_service_behind_in_words_of_ours() {
    let secret = json!({"title": "c4n4ry", "detail": "c4n4ry", "code": "C4N4RY", "abc": "c4n4ry"});
    for (status, expected) in [
        (400, (502, "UPSTREAM_FAILED", None)),
        (401, (502, "UPSTREAM_FAILED", None)),
        (404, (502, "UPSTREAM_FAILED", None)),
        (408, (504, "UPSTREAM_TIMEOUT", None)),
        (429, (503, "UNAVAILABLE", Some(7))),
        (500, (502, "UPSTREAM_FAILED", None)),
        (503, (503, "UNAVAILABLE", Some(7))),
        (504, (504, "UPSTREAM_TIMEOUT", None)),
        (599, (502, "UPSTREAM_FAILED", None)),
    ] {
        let remote = read(status, &[PROBLEM, ("retry-after", "7")], &secret);
        let wait = Fault::retry_after(&remote).map(|wait| wait.as_secs());
        assert_eq!(
            (Fault::status(&remote), Fault::code(&remote), wait),
            expected,
            "{status}"
        );
        let problem = Problem::from(remote);
        for format in [Format::Json, Format::ProblemJson] {
            let shown = format!("{:?}", problem.render(format)).to_lowercase();
            assert!(!shown.contains("c4n4ry"), "{shown}");
        }
    }
}

#[test]
fn a_strangers_texts_are_neither_in_display_nor_in_debug() {
    let body = json!({"title": "c4n4ry", "detail": "c4n4ry", "type": "urn:c4n4ry", "abc": "c4n4ry",
        "code": "A\nc4n4ry", "errors": [{"detail": "c4n4ry", "pointer": "#/c4n4ry"}]});
    let fields = [PROBLEM, ("x-request-id", "a b c4n4ry")];
    let problem = read(500, &fields, &body);
    let shown = format!("{problem} {problem:?} {problem:#?}");
    assert!(!shown.contains("c4n4ry"), "{shown}");
    assert_eq!(problem.request_id(), None);
    // All of it is there for who asks.
    assert_eq!(problem.detail(), Some("c4n4ry"));
    assert_eq!(problem.code(), Some("A\nc4n4ry"));
}

#[test]
fn what_is_relayed_says_what_the_other_service_said() {
    let problem = Problem::new(409, "VERSION_CONFLICT", "It has another version by now.")
        .with_type("https://shop.example/problems/version")
        .with_title("Another version")
        .with_instance("/products/p1")
        .with_retry_after(Duration::from_secs(3))
        .with_extension("version", 7)
        .with_field(FieldError::header("if-match", "is old").with_code("OLD"));
    let response = problem.render(Format::ProblemJson);
    let remote = RemoteProblem::check(response).unwrap_err();
    let relayed = remote.relayed();
    assert_eq!(
        relayed.render(Format::ProblemJson).into_body(),
        problem.render(Format::ProblemJson).into_body()
    );
    assert_eq!(relayed.retry_after(), problem.retry_after());
    let source = std::error::Error::source(&relayed).unwrap();
    assert!(source.downcast_ref::<RemoteProblem>().is_some());

    // What it left open is filled.
    let relayed = read(503, &[], &json!({})).relayed();
    assert_eq!(relayed.to_string(), "UNAVAILABLE (503)");
    let relayed = read(404, &[PROBLEM], &json!({"detail": "No such page."})).relayed();
    assert_eq!(
        (relayed.code(), relayed.message()),
        ("ROUTE_NOT_FOUND", "No such page.")
    );
}

#[test]
fn what_is_said_in_debug_mode_is_neither_kept_nor_relayed() {
    let problem = json!({"detail": "d", "code": "A", "retryable": false, "debug": "c4n4ry"});
    let envelope = json!({"success": false, "error": {"code": "A", "message": "d",
        "retryable": false, "debug": "c4n4ry"}});
    for (kind, body) in [(PROBLEM, problem), (JSON, envelope)] {
        let remote = read(500, &[kind], &body);
        assert_eq!(
            (remote.is_retryable(), remote.code()),
            (Some(false), Some("A"))
        );
        assert!(remote.extensions().is_empty(), "{body}");
        let relayed = remote.relayed().render(Format::ProblemJson);
        assert!(!format!("{relayed:?}").contains("c4n4ry"));
    }
    assert_eq!(
        read(500, &[PROBLEM], &json!({"retryable": "no"})).is_retryable(),
        None
    );
}

#[test]
fn only_an_error_status_makes_an_error() {
    for status in [200, 204, 302, 399] {
        let response = http::Response::builder().status(status).body("{}").unwrap();
        assert!(RemoteProblem::check(response).is_ok(), "{status}");
    }
    let response = http::Response::builder().status(400).body("{}").unwrap();
    assert_eq!(RemoteProblem::check(response).unwrap_err().status(), 400);
}
