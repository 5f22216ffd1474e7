//! One trace from a request to what the subscriber of its event does, sent to a collector.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, routing::post};
use buttress_testkit::eventually::eventually_as;
use bytes::Bytes;
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use prost::Message as _;
use tokio::net::TcpListener;

use crate::shop::{Database, Shop, data, two_of};

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Takes spans, as a collector does: OTLP over HTTP, as protobuf.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&spans);
        let take = move |body: Bytes| async move {
            let sent = ExportTraceServiceRequest::decode(body).unwrap();
            let resources = sent.resource_spans.into_iter();
            let scopes = resources.flat_map(|resource| resource.scope_spans);
            let mut taken = taken.lock().unwrap();
            taken.extend(scopes.flat_map(|scope| scope.spans));
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { url, spans }
    }

    /// Those of the one trace that a caller of ours began.
    fn of_the_trace(&self) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        let ours = spans.iter().filter(|span| hex(&span.trace_id) == TRACE);
        ours.cloned().collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_trace_goes_from_the_request_over_the_saga_and_the_relay_to_the_subscriber() {
    for database in Database::each().await {
        let collector = Collector::start().await;
        let mut shop = Shop::start_with(&database, &["--otlp", &collector.url]);
        let order = shop.post("/orders").header("idempotency-key", "k");
        let order = order.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
        let accepted = order.json(&two_of("p1")).send().await.unwrap();
        let id = data(accepted).await["id"].as_str().unwrap().to_owned();
        assert_eq!(shop.settled(&id).await["status"], "confirmed");
        let told = eventually_as("both events are told", PATIENCE, async || {
            let events = shop.events().await.len();
            if events == 2 { Ok(()) } else { Err(events) }
        });
        told.await;
        // What it has not sent yet it sends at its end.
        shop.signal(Signal::SIGTERM);
        let ended = shop.ended(PATIENCE).await.expect("it ends");
        assert!(ended.success());

        let spans = collector.of_the_trace();
        let named = |name: &str| {
            let found = spans.iter().find(|span| span.name == name);
            found.unwrap_or_else(|| {
                let names: BTreeSet<_> = spans.iter().map(|span| &span.name).collect();
                panic!("no {name}: {names:?}")
            })
        };
        let placed = named("POST /orders");
        assert_eq!(hex(&placed.parent_span_id), CALLER);
        for step in ["reserve", "charge", "ship", "confirm"] {
            named(step);
        }
        for (step, service) in [("charge", "payments"), ("ship", "shipments")] {
            let (step, call) = (named(step), named(service));
            assert_eq!(call.parent_span_id, step.span_id, "{service}");
            let behind = spans
                .iter()
                .find(|span| span.parent_span_id == call.span_id);
            assert!(behind.is_some(), "nothing behind {service}");
        }
        named("relay order.placed");
        let (confirmed, confirm) = (named("relay order.confirmed"), named("confirm"));
        assert_eq!(confirmed.parent_span_id, confirm.span_id);
        let told = spans.iter().filter(|span| span.name == "POST /events");
        let by_confirm = |span: &Span| span.parent_span_id == confirm.span_id;
        assert!(
            told.clone().any(by_confirm),
            "{:?}",
            told.collect::<Vec<_>>()
        );
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn a_collector_that_is_away_keeps_nobody_from_working_or_ending() {
    let database = Database::sqlite();
    let mut shop = Shop::start_with(&database, &["--otlp", "http://127.0.0.1:1"]);
    let id = shop.accepted("k", &two_of("p1")).await;
    assert_eq!(shop.settled(&id).await["status"], "confirmed");
    let told = Instant::now();
    shop.signal(Signal::SIGTERM);
    let ended = shop.ended(PATIENCE).await.expect("it ends");
    assert!(ended.success(), "after {:?}", told.elapsed());
}
