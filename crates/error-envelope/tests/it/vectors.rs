//! The cases of RFC 9457 and of other systems that concern what leaves; each test has their ids.

use buttress_error_envelope::{FieldError, Format, Problem};
use http::{HeaderMap, HeaderValue, StatusCode, header::ACCEPT};
use serde_json::{Value, json};

fn shown(problem: &Problem, format: Format) -> Value {
    serde_json::from_slice(problem.render(format).body()).unwrap()
}

#[test]
fn er_01_extensions_stand_at_the_top_level() {
    let problem = Problem::new(
        403,
        "OUT_OF_CREDIT",
        "Your current balance is 30, but that costs 50.",
    )
    .with_type("https://example.com/probs/out-of-credit")
    .with_title("You do not have enough credit.")
    .with_instance("/account/12345/msgs/abc")
    .with_extension("balance", 30)
    .with_extension("accounts", json!(["/account/12345", "/account/67890"]));
    assert_eq!(
        shown(&problem, Format::ProblemJson),
        json!({
            "type": "https://example.com/probs/out-of-credit",
            "title": "You do not have enough credit.",
            "status": 403,
            "detail": "Your current balance is 30, but that costs 50.",
            "instance": "/account/12345/msgs/abc",
            "code": "OUT_OF_CREDIT",
            "balance": 30,
            "accounts": ["/account/12345", "/account/67890"],
        })
    );
    assert_eq!(
        shown(&problem, Format::Json),
        json!({"success": false, "error": {
            "code": "OUT_OF_CREDIT",
            "message": "Your current balance is 30, but that costs 50.",
            "details": {"balance": 30, "accounts": ["/account/12345", "/account/67890"]},
        }})
    );
}

#[test]
fn er_02_field_errors_have_a_detail_and_a_pointer() {
    let problem = Problem::new(422, "VALIDATION_FAILED", "Your request is not valid.")
        .with_type("https://example.net/validation-error")
        .with_field(FieldError::pointer("/age", "must be a positive integer"))
        .with_field(FieldError::pointer(
            "/profile/color",
            "must be 'green', 'red' or 'blue'",
        ));
    let body = shown(&problem, Format::ProblemJson);
    assert_eq!(body["status"], 422);
    assert_eq!(
        body["errors"],
        json!([
            {"detail": "must be a positive integer", "pointer": "#/age"},
            {"detail": "must be 'green', 'red' or 'blue'", "pointer": "#/profile/color"},
        ])
    );
    assert_eq!(
        shown(&problem, Format::Json)["error"]["details"],
        json!({
            "age": "must be a positive integer",
            "profile.color": "must be 'green', 'red' or 'blue'",
        })
    );
}

#[test]
fn er_03_the_type_is_about_blank_where_none_was_given() {
    let body = shown(&Problem::new(409, "CONFLICT", "No."), Format::ProblemJson);
    assert_eq!(body["type"], "about:blank");
}

#[test]
fn er_09_a_tag_uri_is_a_type() {
    let tag = "tag:example@example.org,2021-09-17:OutOfLuck";
    let body = shown(
        &Problem::new(400, "OUT_OF_LUCK", "No.").with_type(tag),
        Format::ProblemJson,
    );
    assert_eq!(body["type"], tag);
}

#[test]
fn er_10_an_error_leaves_also_to_a_caller_who_accepts_neither_form() {
    for (accept, format) in [
        ("application/json", Format::Json),
        ("text/html", Format::Json),
        (
            "application/json;q=0, application/problem+json;q=0",
            Format::Json,
        ),
        ("application/problem+json", Format::ProblemJson),
    ] {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        assert_eq!(Format::negotiate(&headers), format, "{accept}");
        let response = Problem::from_status(StatusCode::NOT_FOUND).render(format);
        assert_eq!(response.headers()["content-type"], format.media_type());
        assert!(!response.body().is_empty());
    }
}

#[test]
fn er_18_the_title_is_the_phrase_of_the_status_where_there_is_one() {
    let title = |status: u16, given: Option<&'static str>| {
        let problem = Problem::new(status, "ODD", "Odd.");
        let problem = match given {
            Some(title) => problem.with_title(title),
            None => problem,
        };
        shown(&problem, Format::ProblemJson).get("title").cloned()
    };
    assert_eq!(title(404, None), Some(json!("Not Found")));
    assert_eq!(
        title(404, Some("No such order")),
        Some(json!("No such order"))
    );
    assert_eq!(title(499, None), None);
    assert_eq!(title(599, Some("Odd")), Some(json!("Odd")));
}
