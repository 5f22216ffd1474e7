//! What a problem looks like when it leaves, whatever went into it.

use std::{collections::HashSet, time::Duration};

use buttress_error_envelope::{
    Envelope, FieldError, FieldErrors, FieldPath, FieldSource, Format, MAX_BODY, Problem,
};
use http::{
    HeaderValue, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE},
};
use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, json};

const FORMATS: [Format; 2] = [Format::Json, Format::ProblemJson];

fn shown(problem: &Problem, format: Format) -> Value {
    serde_json::from_slice(problem.render(format).body()).unwrap()
}

/// The names of an object's members as they stand there, doubles included.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Names;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, Value>()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[test]
fn an_error_says_its_type_and_length_and_that_it_depends_on_accept() {
    let problem = Problem::new(429, "RATE_LIMITED", "Too many.")
        .with_retry_after(Duration::from_millis(1))
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"))
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        .with_header(VARY, HeaderValue::from_static("origin"))
        .with_header(CONTENT_TYPE, HeaderValue::from_static("text/html"))
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
fn no_extension_takes_the_place_of_a_member_and_none_is_lost() {
    let own = [
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "errors",
        "truncated",
    ];
    let mut problem = Problem::new(409, "CONFLICT", "No.")
        .with_instance("/orders/7")
        .with_field(FieldError::pointer("/a", "b"));
    for name in own {
        problem = problem.with_extension(name, "taken");
    }
    let body = problem.render(Format::ProblemJson).into_body();
    let Names(names) = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        names.iter().collect::<HashSet<_>>().len(),
        names.len(),
        "{names:?}"
    );
    let value: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&value["status"], &value["code"]),
        (&json!(409), &json!("CONFLICT"))
    );
    for name in own {
        assert_eq!(value[format!("x_{name}")], "taken");
    }
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
fn ee4_however_much_goes_in_at_most_8_kib_leave_and_say_that_they_were_cut() {
    let huge = "ä\u{1}\"\\".repeat(250_000);
    let fields = (0..10_000).map(|n| {
        FieldError::at(
            FieldPath::root().key("items").index(n),
            format!("{n} is wrong"),
        )
    });
    let all = [
        ("message", Problem::new(400, "HUGE", huge.clone())),
        ("code", Problem::new(400, huge.clone(), "")),
        (
            "title",
            Problem::new(400, "HUGE", "").with_title(huge.clone()),
        ),
        (
            "type",
            Problem::new(400, "HUGE", "").with_type(huge.clone()),
        ),
        (
            "instance",
            Problem::new(400, "HUGE", "").with_instance(huge.clone()),
        ),
        (
            "fields",
            Problem::new(400, "HUGE", "").with_fields(fields.clone()),
        ),
        (
            "path",
            Problem::new(400, "HUGE", "").with_field(FieldError::parameter(huge.clone(), "")),
        ),
        (
            "field",
            Problem::new(400, "HUGE", "").with_field(FieldError::header("a", huge.clone())),
        ),
        (
            "extension",
            Problem::new(400, "HUGE", "").with_extension("abc", huge.clone()),
        ),
        (
            "name",
            Problem::new(400, "HUGE", "").with_extension(huge.clone(), 1),
        ),
        (
            "everything",
            Problem::new(400, huge.clone(), huge.clone())
                .with_title(huge.clone())
                .with_type(huge.clone())
                .with_instance(huge.clone())
                .with_fields(fields)
                .with_field(FieldError::header(huge.clone(), huge.clone()))
                .with_extension("abc", huge.clone())
                .with_extension(huge, 1),
        ),
    ];
    for (what, problem) in all {
        for format in FORMATS {
            let response = problem.render(format);
            assert!(
                response.body().len() <= MAX_BODY,
                "{what}: {}",
                response.body().len()
            );
            let body: Value = serde_json::from_slice(response.body()).unwrap();
            let (only_there, truncated) = match format {
                Format::ProblemJson => (false, &body["truncated"]),
                _ => (
                    ["title", "type", "instance"].contains(&what),
                    &body["error"]["truncated"],
                ),
            };
            assert_eq!(
                *truncated == true,
                !only_there,
                "{what} as {format:?}: {body}"
            );
        }
    }
}

#[test]
fn what_is_cut_keeps_its_beginning() {
    let problem = Problem::new(400, "HUGE", "words ".repeat(10_000))
        .with_fields((0..10_000).map(|n| FieldError::at(FieldPath::root().index(n), "is wrong")));
    let body = shown(&problem, Format::ProblemJson);
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.starts_with("words words ") && detail.ends_with('…') && detail.len() > 2000);
    let errors = body["errors"].as_array().unwrap();
    assert!(errors.len() > 50, "{}", errors.len());
    assert_eq!(errors[0]["pointer"], "#/0");
}

#[test]
fn an_envelope_that_cannot_be_serialized_is_the_opaque_500() {
    struct Secret;
    impl Serialize for Secret {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("canary"))
        }
    }
    for response in [
        Envelope::new(Secret).render(),
        Envelope::new(1).with_meta(Secret).render(),
    ] {
        assert_eq!(response.status(), 500);
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"]["code"], "INTERNAL");
        assert!(!body.to_string().contains("canary"));
        assert!(response.extensions().get::<Problem>().is_some());
    }
}

#[test]
fn an_envelope_has_meta_only_where_there_is_something_to_say() {
    let body = |envelope: Envelope<u8>| {
        let response = envelope.render();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(
            response.headers()["content-length"],
            response.body().len().to_string()
        );
        String::from_utf8(response.body().to_vec()).unwrap()
    };
    assert_eq!(body(Envelope::new(7)), r#"{"success":true,"data":7}"#);
    assert_eq!(
        body(Envelope::new(7).with_meta(())),
        r#"{"success":true,"data":7}"#
    );
    let meta = Envelope::new(7).with_meta(json!({"next": null}));
    assert_eq!(
        body(meta),
        r#"{"success":true,"data":7,"meta":{"next":null}}"#
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".{0,9}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![4 => ".{0,60}", 1 => "(?s).{0,3000}", 1 => "[\\x00-\\x20\"\\\\]{0,900}"]
}

fn any_field() -> impl Strategy<Value = FieldError> {
    let step = prop_oneof![".{0,12}".prop_map(Ok), any::<usize>().prop_map(Err)];
    let path = prop::collection::vec(step, 0..6).prop_map(|steps| {
        let path = steps
            .into_iter()
            .fold(FieldPath::root(), |path, step| match step {
                Ok(key) => path.key(key),
                Err(index) => path.index(index),
            });
        FieldSource::Body(path)
    });
    let source = prop_oneof![
        4 => path,
        1 => any_text().prop_map(|name| FieldSource::Parameter(name.into())),
        1 => any_text().prop_map(|name| FieldSource::Header(name.into())),
    ];
    (source, any_text()).prop_map(|(source, message)| FieldError::new(source, message))
}

prop_compose! {
    fn any_problem()(
        status in any::<u16>(),
        code in any_text(),
        message in any_text(),
        type_uri in prop::option::of(any_text()),
        title in prop::option::of(any_text()),
        instance in prop::option::of(any_text()),
        fields in prop::collection::vec(any_field(), 0..40),
        extensions in prop::collection::vec(
            (prop_oneof![".{0,20}", "type|status|code|errors|detail"], any_json()), 0..8),
    ) -> Problem {
        let mut problem = Problem::new(status, code, message).with_fields(fields);
        if let Some(uri) = type_uri {
            problem = problem.with_type(uri);
        }
        if let Some(title) = title {
            problem = problem.with_title(title);
        }
        if let Some(uri) = instance {
            problem = problem.with_instance(uri);
        }
        for (name, value) in extensions {
            problem = problem.with_extension(name, value);
        }
        problem
    }
}

proptest! {
    #[test]
    fn ee3_whatever_goes_in_leaves_as_bounded_json_and_nothing_is_lost_unsaid(
        problem in any_problem(),
    ) {
        for format in FORMATS {
            let response = problem.render(format);
            let bytes = response.body();
            prop_assert!(bytes.len() <= MAX_BODY);
            prop_assert_eq!(response.status(), problem.status());
            prop_assert_eq!(&response.headers()["content-type"], format.media_type());
            prop_assert_eq!(&response.headers()["content-length"], &bytes.len().to_string());
            let Names(names) = serde_json::from_slice(bytes).unwrap();
            prop_assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
            let body: Value = serde_json::from_slice(bytes).unwrap();
            if format == Format::Json {
                let error = &body["error"];
                prop_assert_eq!(&body["success"], &json!(false));
                if error.get("truncated").is_some() {
                    continue;
                }
                prop_assert_eq!(error["code"].as_str(), Some(problem.code()));
                prop_assert_eq!(error["message"].as_str(), Some(problem.message()));
                for field in problem.fields() {
                    let told = error["details"][&*field.path()].as_str().unwrap();
                    prop_assert!(told.contains(field.message()));
                }
                continue;
            }
            prop_assert_eq!(&body["status"], &json!(problem.status().as_u16()));
            if body.get("truncated").is_some() {
                continue;
            }
            prop_assert_eq!(body["code"].as_str(), Some(problem.code()));
            prop_assert_eq!(body["detail"].as_str(), Some(problem.message()));
            prop_assert_eq!(body["type"].as_str(), Some(problem.type_uri()));
            prop_assert_eq!(body.get("title").and_then(Value::as_str), problem.title());
            prop_assert_eq!(body.get("instance").and_then(Value::as_str), problem.instance());
            let errors = body.get("errors").and_then(Value::as_array);
            prop_assert_eq!(errors.map_or(0, Vec::len), problem.fields().len());
            for (name, value) in problem.extensions() {
                // Floating point numbers may be written in fewer digits than they have.
                let again: Value = serde_json::from_str(&value.to_string()).unwrap();
                prop_assert_eq!(&body[name], &again);
            }
        }
    }
}
