//! What an error costs on its way out: made, rendered in both forms, negotiated; beside another
//! crate's problem and beside serializing the bare JSON, which is the limit.

#![allow(
    missing_docs,
    reason = "criterion's macros make public functions without any"
)]

use std::{borrow::Cow, hint::black_box};

use buttress_core::Fault;
use buttress_error_envelope::{FieldError, Format, Problem};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, StatusCode, header::ACCEPT};
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

criterion_group!(benches, render, negotiate);
criterion_main!(benches);
