//! The error of another service, of any bytes: never a panic, and what is read can be said on.
#![no_main]

use buttress_error_envelope::{Format, MAX_BODY, client::RemoteProblem};
use http::{HeaderMap, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;

// The first byte chooses what the headers say, the rest of the first line is one of them, and what
// comes after it is the body.
fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let (field, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut headers = HeaderMap::new();
    let content_type = ["application/json", "application/problem+json", "text/html"];
    if let Some(content_type) = content_type.get(usize::from(choice & 3)) {
        headers.insert("content-type", HeaderValue::from_static(content_type));
    }
    if let Ok(value) = HeaderValue::from_bytes(field) {
        let names = ["retry-after", "date", "x-request-id", "content-type"];
        headers.append(names[usize::from(choice >> 2 & 3)], value);
    }
    let statuses = [400, 422, 429, 503, 599, 200, 999, 100];
    let status = StatusCode::from_u16(statuses[usize::from(choice >> 4 & 7)]).unwrap();

    let problem = RemoteProblem::from_parts(status, &headers, body);
    assert_eq!(problem.status(), status);
    let shown = format!("{problem} {problem:?}");
    assert!(shown.len() < 1000 && !shown.contains(char::is_control));
    let wait = problem.retry_after().map(|wait| wait.as_secs());
    assert!(wait.is_none_or(|wait| (1..=86_400).contains(&wait)));
    let _ = problem.verdict();
    let relayed = problem.relayed();
    for format in [Format::Json, Format::ProblemJson] {
        let response = relayed.render(format);
        assert!(response.body().len() <= MAX_BODY);
        // What is said on is read again.
        serde_json::from_slice::<serde_json::Value>(response.body()).unwrap();
        assert!(RemoteProblem::check(response).is_err());
    }
});
