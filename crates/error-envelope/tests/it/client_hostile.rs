//! No response makes the reading panic, and what we say ourselves is read back as it was said.

use buttress_error_envelope::{
    FieldError, FieldPath, Format, Problem,
    client::{MAX_REMOTE_BODY, RemoteForm, RemoteProblem},
};
use buttress_testkit::{seed::Seed, tier::short_or_long};
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;
use rand::{rngs::StdRng, seq::IndexedRandom as _};

use crate::client::{JSON, PROBLEM, headers};

/// Bodies from which the changed ones are made.
const SEEDS: [&str; 7] = [
    r#"{"success":false,"error":{"code":"A_B","message":"m","details":{"a[0].b":"is odd","[\"x\"]":"c"}}}"#,
    r##"{"type":"about:blank","title":"t","status":404,"detail":"d","instance":"/i","code":"C","errors":[{"detail":"d","pointer":"#/a%20/0"},{"detail":"d","parameter":"p"}],"truncated":true,"x":[1,{"y":null}]}"##,
    r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R","domain":"d","metadata":{"a":"b"}},{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"a.b[1]","description":"d"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}"#,
    r#"{"code":5,"message":"m","details":[]}"#,
    r#"{"errors":[{"status":"422"}]}"#,
    "<html>502 Bad Gateway</html>",
    "",
];

/// What a change puts in: what JSON, pointers, paths and durations are made of.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u",
    "\\ud800",
    "null",
    "-",
    "1e308",
    "1e-999",
    "99999999999999999999",
    "#",
    "%",
    "%ff",
    "~",
    "~2",
    "s",
    ".",
    "\u{0}",
    "\u{feff}",
];

fn changed(rng: &mut StdRng) -> Vec<u8> {
    let mut body = SEEDS.choose(rng).unwrap().as_bytes().to_vec();
    for _ in 0..rng.random_range(0..6) {
        let at = rng.random_range(0..=body.len());
        match rng.random_range(0..5) {
            0 => body.truncate(at),
            1 => {
                let piece = PIECES.choose(rng).unwrap().bytes();
                drop(body.splice(at..at, piece));
            }
            2 if at < body.len() => body[at] = rng.random(),
            3 => {
                let end = (at + rng.random_range(0..8)).min(body.len());
                drop(body.drain(at..end));
            }
            _ => {
                let end = (at + rng.random_range(0..40)).min(body.len());
                let again = body[at..end].to_vec();
                drop(body.splice(at..at, again));
            }
        }
    }
    body
}

fn any_headers(rng: &mut StdRng) -> HeaderMap {
    let mut fields = headers(match rng.random_range(0..4) {
        0 => &[JSON],
        1 => &[PROBLEM],
        2 => &[("content-type", "application/vnd.api+json")],
        _ => &[],
    });
    if rng.random_bool(0.3) {
        let value: [u8; 12] = rng.random();
        for name in ["retry-after", "date", "x-request-id", "content-type"] {
            if let (true, Ok(value)) = (rng.random_bool(0.5), HeaderValue::from_bytes(&value)) {
                fields.append(name, value);
            }
        }
    }
    fields
}

#[test]
fn ee2_no_response_makes_the_reading_panic() {
    let tally = buttress_testkit::tally::suite("EE2");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut read = 0;
    for _ in 0..short_or_long(100_000, 10_000_000) {
        let status = StatusCode::from_u16(rng.random_range(100..1000)).unwrap();
        let fields = any_headers(&mut rng);
        let problem = RemoteProblem::from_parts(status, &fields, &changed(&mut rng));
        assert_eq!(problem.status(), status);
        read += u32::from(problem.form() != RemoteForm::Unknown);
        let shown = format!("{problem} {problem:?}");
        assert!(
            shown.len() < 1000 && !shown.contains(char::is_control),
            "{shown:?}"
        );
        // What it says, can be said on.
        let relayed = problem.relayed();
        assert!(
            relayed.render(Format::ProblemJson).body().len() <= buttress_error_envelope::MAX_BODY
        );
    }
    // The changes leave enough that is read for the sweep to say something.
    assert!(read > 10_000, "{read}");
    tally.faults(short_or_long(100_000, 10_000_000));
}

#[test]
fn a_body_that_is_too_long_or_too_deep_is_not_looked_at_and_the_status_stays() {
    let long = format!(r#"{{"title":"{}"}}"#, "t".repeat(MAX_REMOTE_BODY));
    let deep = format!(
        r#"{{"title":"t","a":{}{}}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    for (body, complete) in [(long, false), (deep, true)] {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let fields = headers(&[PROBLEM, ("retry-after", "7")]);
        let problem = RemoteProblem::from_parts(status, &fields, body.as_bytes());
        assert_eq!(
            (problem.form(), problem.is_complete()),
            (RemoteForm::Unknown, complete)
        );
        assert_eq!(problem.status(), 503);
        assert!(problem.retry_after().is_some());
    }
    // One byte less is looked at.
    let fits = format!(r#"{{"title":"{}"}}"#, "t".repeat(MAX_REMOTE_BODY - 12));
    assert_eq!(fits.len(), MAX_REMOTE_BODY);
    let fields = headers(&[PROBLEM]);
    let problem = RemoteProblem::from_parts(StatusCode::NOT_FOUND, &fields, fits.as_bytes());
    assert_eq!(problem.form(), RemoteForm::ProblemJson);
}

fn path() -> impl Strategy<Value = FieldPath> {
    let step = prop_oneof![
        "[a-z][a-zA-Z0-9_ ./\"]{0,6}".prop_map(|key| FieldPath::root().key(key)),
        (0..100_usize).prop_map(|index| FieldPath::root().index(index)),
    ];
    prop::collection::vec(step, 0..4).prop_map(|steps| {
        let pointer: String = steps.iter().map(FieldPath::to_pointer).collect();
        FieldPath::from_pointer(&pointer)
    })
}

prop_compose! {
    fn problem()(
        status in prop_oneof![Just(400_u16), Just(422), 400..600_u16],
        code in "[A-Z][A-Z0-9_]{2,20}",
        message in "\\PC{0,40}",
        title in prop::option::of("\\PC{0,20}"),
        uri in prop::option::of("(tag:|/|urn:)[a-z0-9,@:]{0,12}"),
        instance in prop::option::of("/[a-z0-9/]{0,12}"),
        wait in prop::option::of(0..100_000_u64),
        fields in prop::collection::vec((path(), "\\PC{0,20}", prop::option::of("[A-Z]{1,8}")), 0..4),
        extensions in prop::collection::vec(("y_[a-z]{1,8}", any::<i64>()), 0..4),
    ) -> Problem {
        let mut problem = Problem::new(status, code, message);
        if let Some(title) = title { problem = problem.with_title(title); }
        if let Some(uri) = uri { problem = problem.with_type(uri); }
        if let Some(uri) = instance { problem = problem.with_instance(uri); }
        if let Some(wait) = wait {
            problem = problem.with_retry_after(std::time::Duration::from_secs(wait));
        }
        for (path, message, code) in fields {
            let field = FieldError::at(path, message);
            problem = problem.with_field(match code {
                Some(code) => field.with_code(code),
                None => field,
            });
        }
        for (name, value) in extensions {
            problem = problem.with_extension(name, value);
        }
        problem
    }
}

#[test]
fn ee3_what_is_rendered_is_read_back_as_it_was() {
    let tally = buttress_testkit::tally::suite("EE3");
    each_what_is_rendered_is_read_back_as_it_was();
    tally.operations(short_or_long(300, 100_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(short_or_long(300, 100_000)))]

    fn each_what_is_rendered_is_read_back_as_it_was(problem in problem()) {
        let response = problem.render(Format::ProblemJson);
        let relayed = RemoteProblem::check(response).unwrap_err().relayed();
        prop_assert_eq!(
            relayed.render(Format::ProblemJson).into_parts().1,
            problem.render(Format::ProblemJson).into_parts().1
        );
        prop_assert_eq!(relayed.retry_after(), problem.retry_after());

        // The envelope has no title, type and instance, and says of fields no more than where.
        let response = problem.render(Format::Json);
        let relayed = RemoteProblem::check(response).unwrap_err().relayed();
        prop_assert_eq!(relayed.status(), problem.status());
        prop_assert_eq!(
            relayed.render(Format::Json).into_body(),
            problem.render(Format::Json).into_body()
        );

        // google.rpc.Status: codes and durations as it writes them. What it has no place for is
        // left out, and what it says of itself becomes no extension.
        let response = problem.render(Format::RpcStatus);
        let remote = RemoteProblem::check(response).unwrap_err();
        prop_assert_eq!(remote.form(), RemoteForm::GoogleRpc);
        let relayed = remote.relayed();
        prop_assert_eq!(relayed.status(), problem.status());
        prop_assert!(!relayed.extensions().contains_key("truncated"));
        let again = RemoteProblem::check(relayed.render(Format::RpcStatus)).unwrap_err();
        prop_assert_eq!(
            again.relayed().render(Format::RpcStatus).into_body(),
            relayed.render(Format::RpcStatus).into_body()
        );
    }
}
