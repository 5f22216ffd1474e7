//! Through the whole layer: what is private is in the log, once, and nowhere else.

use std::{future::ready, sync::Mutex};

use buttress_error_envelope::{
    Problem,
    tower::{BoxError, EnvelopeLayer},
};
use http::Request;
use tower::service_fn;

use crate::{
    canary::{CANARY, sources},
    log::heard,
    stack::{Answer, Outcome, PROBLEM_JSON, answer, ask, request},
};

/// What a service that fails with `error` answers, and what the log heard.
async fn failed(error: BoxError, form: (&str, &str)) -> (Answer, Vec<String>) {
    let error = Mutex::new(Some(error));
    let service = service_fn(move |_: Request<()>| {
        let error = error.lock().unwrap().take().unwrap();
        ready(Outcome::Err(error))
    });
    let asked = request("POST", &[("x-request-id", "abc-7"), form]);
    heard(ask(EnvelopeLayer::new(), service, asked)).await
}

/// Neither status line, headers, extensions nor body, and no rendering of what leaves.
fn shows_nothing(answer: &Answer, told: &str) {
    let problem = answer.head.extensions.get::<Problem>().unwrap();
    let seen = format!("{answer:?} {answer:#?} {problem} {:?}", answer.bytes);
    assert!(!seen.contains(CANARY), "{told}: {seen}");
    let body = String::from_utf8(answer.bytes.to_vec()).unwrap();
    assert!(!body.contains(CANARY), "{told}: {body}");
    for (name, value) in &answer.head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        assert!(!value.contains(CANARY), "{told}: {name}: {value}");
    }
}

/// One line, at error level, in the span of the request and with its id.
fn told_once(lines: &[String], answer: &Answer, told: &str) {
    let [line] = lines else {
        panic!("{told}: one line: {lines:?}")
    };
    for part in ["ERROR", "request_id=\"abc-7\"", "method=\"POST\"", "cause="] {
        assert!(line.contains(part), "{told}: {part}: {line}");
    }
    assert_eq!(answer.id(), "abc-7");
}

#[tokio::test]
async fn ee1_an_error_of_the_service_shows_nothing_and_is_logged_once_with_its_chain() {
    let tally = buttress_testkit::tally::suite("EE1");
    for form in [("accept", "*/*"), PROBLEM_JSON] {
        for error in sources() {
            let told = format!("{error:?}");
            let chain = buttress_core::Chain(&*error).to_string();
            let (answer, lines) = failed(error, form).await;
            shows_nothing(&answer, &told);
            if answer.status() < 500 {
                // The caller's own doing is told at debug level alone.
                assert!(
                    lines.iter().all(|line| line.contains("DEBUG")),
                    "{told}: {lines:?}"
                );
                continue;
            }
            told_once(&lines, &answer, &told);
            // The chain as it is, but that the log quotes it.
            let words = chain.split(['"', '\\', '\n']).next().unwrap();
            let is_problem = answer.code() == "INTERNAL" && chain.starts_with("INTERNAL");
            assert!(
                is_problem || lines[0].contains(words),
                "{told}: {words}: {lines:?}"
            );
        }
    }
    tally.operations(2 * sources().len());
}

#[tokio::test]
async fn unknown_errors_are_one_opaque_500_to_the_byte() {
    let unknown: [BoxError; 4] = [
        CANARY.into(),
        std::io::Error::other(CANARY).into(),
        "x".repeat(100_000).into(),
        Problem::internal(CANARY).into(),
    ];
    let mut seen = std::collections::HashSet::new();
    for error in unknown {
        let (answer, _) = failed(error, PROBLEM_JSON).await;
        assert_eq!((answer.status(), &*answer.code()), (500, "INTERNAL"));
        let headers = format!("{:?}", answer.head.headers);
        seen.insert((headers, answer.bytes));
    }
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn ee6_a_panic_shows_nothing_and_is_logged_once() {
    let tally = buttress_testkit::tally::suite("EE6");
    let panics = || panic!("{CANARY}");
    let asked = request("POST", &[("x-request-id", "abc-7")]);
    let (answer, lines) = heard(answer(panics, asked)).await;
    shows_nothing(&answer, "a panic");
    told_once(&lines, &answer, "a panic");
    assert!(
        lines[0].contains(CANARY),
        "its words are for the log: {lines:?}"
    );
    tally.faults(1);
}
