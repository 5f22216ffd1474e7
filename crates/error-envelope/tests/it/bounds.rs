//! Whatever goes into a problem, what leaves is bounded, valid, and says what it lost.

use std::collections::HashSet;

use buttress_error_envelope::{FieldError, FieldPath, FieldSource, Format, MAX_BODY, Problem};
use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, json};

use crate::render::{FORMATS, shown};

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
fn no_extension_takes_the_place_of_a_member_and_none_is_lost() {
    let own = [
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "errors",
        "retryable",
        "debug",
        "truncated",
    ];
    let mut problem = Problem::new(409, "CONFLICT", "No.")
        .with_instance("/orders/7")
        .with_retryable(false)
        .with_source(std::io::Error::other("why"))
        .with_debug()
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
fn ee4_however_much_goes_in_at_most_8_kib_leave_and_say_that_they_were_cut() {
    let tally = buttress_testkit::tally::suite("EE4");
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
                Format::RpcStatus => {
                    let told = body["details"][0]["metadata"].get("truncated").is_some();
                    let only_there = ["title", "type", "instance"].contains(&what);
                    assert_eq!(told, !only_there, "{what} as {format:?}: {body}");
                    continue;
                }
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
    tally.operations(11 * FORMATS.len());
}

#[test]
fn what_just_fits_is_shown_and_what_just_does_not_is_left_out() {
    let problem = |length| {
        let long = "a".repeat(120);
        Problem::new(400, long.clone(), long.clone())
            .with_title(long.clone())
            .with_type(long.clone())
            .with_instance(long)
            .with_extension("abc", "a".repeat(length))
    };
    for format in FORMATS {
        let mut shown = 0;
        for length in 6000..MAX_BODY {
            let bytes = problem(length).render(format).into_body();
            assert!(bytes.len() <= MAX_BODY, "{length}: {}", bytes.len());
            shown += usize::from(bytes.len() > length);
        }
        assert!((1..MAX_BODY - 6000).contains(&shown), "{shown}");
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

#[test]
fn ee3_whatever_goes_in_leaves_as_bounded_json_and_nothing_is_lost_unsaid() {
    let tally = buttress_testkit::tally::suite("EE3");
    each_whatever_goes_in_leaves_as_bounded_json_and_nothing_is_lost_unsaid();
    tally.operations(256);
}

proptest! {
    fn each_whatever_goes_in_leaves_as_bounded_json_and_nothing_is_lost_unsaid(
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
            if format == Format::RpcStatus {
                let metadata = &body["details"][0]["metadata"];
                if metadata.get("truncated").is_some() {
                    continue;
                }
                prop_assert_eq!(body["message"].as_str(), Some(problem.message()));
                let violations = body["details"][1]["fieldViolations"].as_array();
                prop_assert_eq!(violations.map_or(0, Vec::len), problem.fields().len());
                for name in problem.extensions().keys() {
                    prop_assert!(metadata[name].is_string());
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
