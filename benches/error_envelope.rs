//! What an error costs on its way out and in: made, rendered in both forms, negotiated, read back;
//! beside other crates' problems and beside the bare JSON, which is the limit. And what a page's
//! cursor costs.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]

use std::{borrow::Cow, hint::black_box};

use buttress_core::Fault;
use buttress_error_envelope::{
    FieldError, Format, Problem,
    client::RemoteProblem,
    page::{CursorKey, PageQuery, Pages},
};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::json;

#[derive(Debug, thiserror::Error)]
#[error("row 7 is not there")]
struct NotThere;

impl Fault for NotThere {
    fn code(&self) -> &'static str {
        "ORDER_NOT_FOUND"
    }

    fn status(&self) -> u16 {
        404
    }

    fn public_message(&self) -> Cow<'_, str> {
        "There is no such order.".into()
    }
}

fn render(c: &mut Criterion) {
    let mut group = c.benchmark_group("render");
    group.bench_function("bare JSON", |b| {
        let body = json!({ "type": "about:blank", "title": "Not Found", "status": 404,
            "detail": "There is no such order.", "code": "ORDER_NOT_FOUND" });
        b.iter(|| serde_json::to_vec(black_box(&body)));
    });
    group.bench_function("peer problem_details", |b| {
        b.iter(|| {
            let problem = problem_details::ProblemDetails::from_status_code(StatusCode::NOT_FOUND)
                .with_detail("There is no such order.");
            serde_json::to_vec(&black_box(problem))
        });
    });
    group.bench_function("peer http-api-problem", |b| {
        b.iter(|| {
            let problem = http_api_problem::HttpApiProblem::new(StatusCode::NOT_FOUND)
                .type_url("about:blank")
                .title("Not Found")
                .detail("There is no such order.")
                .value("code", &"ORDER_NOT_FOUND");
            black_box(problem).json_bytes()
        });
    });
    for (name, format) in [
        ("envelope", Format::Json),
        ("problem+json", Format::ProblemJson),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| Problem::from(black_box(NotThere)).render(format));
        });
    }
    let fields = (0..10)
        .map(|at| FieldError::pointer(&format!("/items/{at}/quantity"), "must be at least 1"));
    let invalid = Problem::from_status(StatusCode::UNPROCESSABLE_ENTITY).with_fields(fields);
    group.bench_function("envelope, ten fields", |b| {
        b.iter(|| black_box(&invalid).render(Format::Json));
    });
    group.finish();
}

fn negotiate(c: &mut Criterion) {
    let mut group = c.benchmark_group("negotiate");
    for (name, accept) in [
        ("anything", "*/*"),
        (
            "a browser",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
        ),
        (
            "problem+json",
            "application/problem+json, application/json;q=0.5",
        ),
    ] {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        group.bench_function(name, |b| b.iter(|| Format::negotiate(black_box(&headers))));
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    let body = Problem::from(NotThere)
        .render(Format::ProblemJson)
        .into_body();
    group.bench_function("bare JSON", |b| {
        b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&body)));
    });
    group.bench_function("peer problem_details", |b| {
        type Peer = problem_details::ProblemDetails<serde_json::Map<String, serde_json::Value>>;
        b.iter(|| serde_json::from_slice::<Peer>(black_box(&body)));
    });
    group.bench_function("peer http-api-problem", |b| {
        b.iter(|| serde_json::from_slice::<http_api_problem::HttpApiProblem>(black_box(&body)));
    });
    let google = br#"{"error":{"code":404,"message":"There is no such order.","status":"NOT_FOUND",
        "details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ORDER_NOT_FOUND",
        "domain":"shop.example"}]}}"#;
    let envelope = Problem::from(NotThere).render(Format::Json);
    let problem = Problem::from(NotThere).render(Format::ProblemJson);
    let json = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    for (name, headers, body) in [
        ("envelope", envelope.headers(), &envelope.body()[..]),
        ("problem+json", problem.headers(), &problem.body()[..]),
        ("google.rpc", &json, google),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| RemoteProblem::from_parts(StatusCode::NOT_FOUND, headers, black_box(body)));
        });
    }
    group.finish();
}

fn cursor(c: &mut Criterion) {
    let mut group = c.benchmark_group("cursor");
    let key = CursorKey::new(&[7; 32]).expect("32 bytes are a key");
    for (name, builder) in [
        ("checked", Pages::builder("orders")),
        ("signed", Pages::builder("orders").signed_by(key)),
    ] {
        let pages = builder.build().expect("the defaults can be built");
        let first = PageQuery::new(Some(1), None);
        let first = pages
            .read::<(i64, u64)>(&first)
            .expect("no cursor, no refusal");
        let page = || first.page(vec![(1_763_000_000_000_000, 7); 2], |row| *row);
        group.bench_function(format!("{name}, issued"), |b| b.iter(|| black_box(page())));
        let next = page()
            .ok()
            .and_then(|page| page.next_cursor().map(str::to_owned));
        let next = PageQuery::new(None, next);
        group.bench_function(format!("{name}, read"), |b| {
            b.iter(|| pages.read::<(i64, u64)>(black_box(&next)));
        });
    }
    group.finish();
}

criterion_group!(benches, render, negotiate, read, cursor);
criterion_main!(benches);
