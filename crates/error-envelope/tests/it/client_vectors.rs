//! The cases of RFC 9457 and of other systems that concern what is read; each test has their ids.

use buttress_error_envelope::{
    FieldError,
    client::{RemoteForm, RemoteProblem},
};
use http::StatusCode;
use serde_json::json;

use crate::client::{JSON, PROBLEM, headers, read};

#[test]
fn er_01_extensions_stand_at_the_top_level() {
    let problem = read(
        403,
        &[PROBLEM],
        &json!({
            "type": "https://example.com/probs/out-of-credit",
            "title": "You do not have enough credit.",
            "status": 403,
            "detail": "Your current balance is 30, but that costs 50.",
            "instance": "/account/12345/msgs/abc",
            "balance": 30,
            "accounts": ["/account/12345", "/account/67890"],
        }),
    );
    assert_eq!(
        problem.type_uri(),
        "https://example.com/probs/out-of-credit"
    );
    assert_eq!(problem.title(), Some("You do not have enough credit."));
    assert_eq!(problem.advisory_status(), Some(403));
    assert_eq!(
        problem.detail(),
        Some("Your current balance is 30, but that costs 50.")
    );
    assert_eq!(problem.instance(), Some("/account/12345/msgs/abc"));
    assert_eq!(problem.code(), None);
    let extensions = serde_json::Value::Object(problem.extensions().clone());
    assert_eq!(
        extensions,
        json!({"balance": 30, "accounts": ["/account/12345", "/account/67890"]})
    );
}

#[test]
fn er_02_field_errors_have_a_detail_and_a_pointer() {
    let problem = read(
        422,
        &[PROBLEM],
        &json!({
            "type": "https://example.net/validation-error",
            "title": "Your request is not valid.",
            "errors": [
                {"detail": "must be a positive integer", "pointer": "#/age"},
                {"detail": "must be 'green', 'red' or 'blue'", "pointer": "#/profile/color"},
                {"detail": "is odd", "pointer": "/a~1b/0/c%20d"},
                {"detail": "is odd", "pointer": "#/c%20d/%C3%A4"},
                {"detail": "is too large", "parameter": "limit", "code": "RANGE"},
                {"detail": "is old", "header": "if-match"},
                {"detail": "all of it"},
                {"pointer": "#/no/detail"},
                {"detail": 7},
                7,
            ],
        }),
    );
    assert_eq!(
        problem.fields(),
        [
            FieldError::pointer("/age", "must be a positive integer"),
            FieldError::pointer("/profile/color", "must be 'green', 'red' or 'blue'"),
            FieldError::pointer("/a~1b/0/c%20d", "is odd"),
            FieldError::pointer("/c d/ä", "is odd"),
            FieldError::parameter("limit", "is too large").with_code("RANGE"),
            FieldError::header("if-match", "is old"),
            FieldError::pointer("", "all of it"),
        ]
    );
}

#[test]
fn er_03_no_type_is_about_blank() {
    let problem = read(404, &[PROBLEM], &json!({}));
    assert_eq!(problem.form(), RemoteForm::ProblemJson);
    assert_eq!(problem.type_uri(), "about:blank");
}

#[test]
fn er_05_a_member_of_the_wrong_type_is_ignored_and_the_rest_kept() {
    for (body, left) in [
        (
            json!({"status": "404", "title": 5, "detail": "d"}),
            json!({}),
        ),
        (json!({"status": 404.5, "detail": "d"}), json!({})),
        (json!({"status": -1, "detail": "d"}), json!({})),
        (json!({"status": 70_000, "detail": "d"}), json!({})),
        (json!({"status": 99, "detail": "d"}), json!({})),
        (
            json!({"type": null, "instance": [], "detail": "d"}),
            json!({}),
        ),
        (
            json!({"type": {}, "detail": "d", "abc": 1}),
            json!({"abc": 1}),
        ),
        // No members of RFC 9457's, so of another type they are somebody else's extensions.
        (json!({"code": 7, "detail": "d"}), json!({"code": 7})),
        (
            json!({"truncated": "no", "detail": "d"}),
            json!({"truncated": "no"}),
        ),
        (
            json!({"errors": {"name": ["is required"]}, "detail": "d"}),
            json!({"errors": {"name": ["is required"]}}),
        ),
        (
            json!({"errors": ["a", "b"], "detail": "d"}),
            json!({"errors": ["a", "b"]}),
        ),
    ] {
        let problem = read(404, &[PROBLEM], &body);
        assert_eq!(problem.advisory_status(), None, "{body}");
        assert_eq!(problem.title(), Some("Not Found"), "{body}");
        assert_eq!(problem.type_uri(), "about:blank", "{body}");
        assert_eq!(problem.instance(), None, "{body}");
        assert_eq!(problem.detail(), Some("d"), "{body}");
        assert_eq!(problem.code(), None, "{body}");
        assert!(
            problem.is_complete() && problem.fields().is_empty(),
            "{body}"
        );
        let extensions = serde_json::Value::Object(problem.extensions().clone());
        assert_eq!(extensions, left);
    }
}

#[test]
fn er_06_an_extension_that_is_not_known_is_no_failure() {
    let body = json!({"detail": "d", "": {"deep": [[null]]}, "x-y": 1, "Detail": 2});
    let problem = read(400, &[PROBLEM], &body);
    assert_eq!(problem.detail(), Some("d"));
    assert_eq!(problem.extensions().len(), 3);
}

#[test]
fn er_07_the_status_of_http_governs() {
    let problem = read(500, &[PROBLEM], &json!({"status": 403}));
    assert_eq!(problem.status(), 500);
    assert_eq!(problem.advisory_status(), Some(403));
    assert_eq!(problem.title(), Some("Internal Server Error"));
    assert_eq!(problem.relayed().status(), 500);
}

#[test]
fn er_09_a_tag_uri_is_a_type() {
    for uri in [
        "tag:example@example.org,2021-09-17:OutOfLuck",
        "/relative",
        "urn:x",
    ] {
        assert_eq!(read(400, &[PROBLEM], &json!({"type": uri})).type_uri(), uri);
    }
}

#[test]
fn er_10_problem_json_is_read_whether_it_was_asked_for_or_not() {
    let body = json!({"type": "about:blank", "title": "Not Found", "status": 404});
    for content_type in [
        "application/problem+json",
        "Application/Problem+JSON; charset=utf-8",
        "application/json",
    ] {
        let problem = read(404, &[("content-type", content_type)], &body);
        assert_eq!(problem.form(), RemoteForm::ProblemJson, "{content_type}");
    }
}

#[test]
fn er_17_another_published_form_is_not_mistaken_for_one_of_ours() {
    let api = ("content-type", "application/vnd.api+json");
    for body in [
        json!({"errors": [{"status": "422", "code": "A", "title": "t", "detail": "d"}]}),
        json!({"errors": [{"status": "400"}, {"status": "404"}]}),
        json!({"errors": [{}]}),
    ] {
        for content_type in [api, JSON] {
            let problem = read(400, &[content_type], &body);
            assert_eq!(problem.form(), RemoteForm::Unknown, "{body}");
            assert_eq!((problem.status().as_u16(), problem.code()), (400, None));
        }
    }
}

#[test]
fn er_18_the_title_is_the_phrase_of_the_status_where_there_is_one() {
    let title = |status: u16, body| {
        let status = StatusCode::from_u16(status).unwrap();
        let problem = RemoteProblem::from_parts(status, &headers(&[PROBLEM]), body);
        problem.title().map(str::to_owned)
    };
    assert_eq!(title(404, b"{}").as_deref(), Some("Not Found"));
    assert_eq!(
        title(404, br#"{"title":"No such order"}"#).as_deref(),
        Some("No such order")
    );
    assert_eq!(title(499, b"{}"), None);
    assert_eq!(title(599, br#"{"title":"Odd"}"#).as_deref(), Some("Odd"));
}
