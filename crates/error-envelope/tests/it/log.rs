//! What the log hears of a request.

use std::{
    future::Future,
    io::Write,
    sync::{Arc, Mutex},
};

use buttress_error_envelope::{
    Problem,
    tower::{BoxError, EnvelopeLayer},
};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tracing::{Level, instrument::WithSubscriber};

use crate::stack::{answer, ask, rendered, request};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What `work` gives, and every line that was logged meanwhile, at every level.
pub(crate) async fn heard<T>(work: impl Future<Output = T>) -> (T, Vec<String>) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let value = work.with_subscriber(subscriber).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    (value, text.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn an_error_of_ours_is_told_once_with_its_chain_in_the_span_of_the_request() {
    let make = || {
        let disk = std::io::Error::other("disk\nfull");
        rendered(&Problem::new(503, "UNAVAILABLE", "Later.").with_source(disk))
    };
    let asked = request("GET", &[("x-request-id", "abc")]);
    let (_, lines) = heard(answer(make, asked)).await;
    let [line] = &lines[..] else {
        panic!("one line: {lines:?}")
    };
    for part in [
        "ERROR request{request_id=\"abc\" method=\"GET\" path=\"/orders/7\"}",
        "the request failed",
        "code=\"UNAVAILABLE\"",
        "status=503",
        "disk\\",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("c4n4ry"), "the query is not told: {line}");
}

#[tokio::test]
async fn an_error_of_the_callers_is_told_at_debug_level() {
    let make = || rendered(&Problem::new(404, "ORDER_NOT_FOUND", "None."));
    let (_, lines) = heard(answer(make, request("GET", &[]))).await;
    let [line] = &lines[..] else {
        panic!("one line: {lines:?}")
    };
    assert!(
        line.contains("DEBUG") && line.contains("ORDER_NOT_FOUND"),
        "{line}"
    );
}

#[tokio::test]
async fn a_panics_words_are_for_the_log() {
    let (answer, lines) = heard(answer(|| panic!("c4n4ry"), request("GET", &[]))).await;
    assert_eq!(answer.status(), 500);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("ERROR") && line.contains("a panic: c4n4ry"))
    );
}

#[tokio::test]
async fn what_the_service_logs_is_in_the_span_of_the_request() {
    let service = tower::service_fn(|_: http::Request<()>| {
        tracing::info!("called");
        async {
            tokio::task::yield_now().await;
            tracing::info!("resumed");
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        }
    });
    let layer = EnvelopeLayer::new();
    let asked = request("GET", &[("x-request-id", "abc")]);
    let (_, lines) = heard(ask(layer, service, asked)).await;
    assert_eq!(lines.len(), 2, "a success is not told: {lines:?}");
    assert!(
        lines
            .iter()
            .all(|line| line.contains("request{request_id=\"abc\"")),
        "{lines:?}"
    );
}
