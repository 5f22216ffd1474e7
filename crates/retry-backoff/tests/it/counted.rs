//! What the metrics say after known calls.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{ByResult, Verdict};
use buttress_retry_backoff::{
    Backoff, MetricsObserver, Retry, RetryPolicy,
    hedge::{Hedge, HedgeDelay},
};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// Writes down what it is told, by name and labels.
#[derive(Clone, Default)]
struct Book {
    values: Arc<Mutex<BTreeMap<String, Vec<f64>>>>,
}

struct Line {
    book: Book,
    key: String,
}

impl Line {
    fn write(&self, value: f64) {
        let mut values = self.book.values.lock().unwrap();
        values.entry(self.key.clone()).or_default().push(value);
    }
}

impl CounterFn for Line {
    fn increment(&self, value: u64) {
        self.write(f64::from(u32::try_from(value).unwrap()));
    }

    fn absolute(&self, _: u64) {
        panic!("counters only grow");
    }
}

impl HistogramFn for Line {
    fn record(&self, value: f64) {
        self.write(value);
    }
}

impl Book {
    fn line(&self, key: &Key) -> Arc<Line> {
        let labels = key.labels().map(metrics::Label::value);
        let labels: Vec<_> = labels.collect();
        let name = key.name().strip_prefix("buttress_retry_backoff_").unwrap();
        Arc::new(Line {
            book: self.clone(),
            key: format!("{name} {}", labels.join(" ")),
        })
    }
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.line(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("gauges are read from the registry")
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.line(key))
    }
}

async fn calls() {
    let policy = RetryPolicy::builder()
        .attempts(3)
        .backoff(Backoff::constant(Duration::from_millis(500)));
    let retry = Retry::new("rates", policy.build().unwrap()).with_observer(MetricsObserver::new());
    let mut left = 2;
    let second = || {
        left -= 1;
        std::future::ready(if left == 0 { Ok(()) } else { Err(()) })
    };
    retry.call(async || Ok::<_, ()>(())).await.unwrap();
    retry.call(second).await.unwrap();
    retry.call(async || Err::<(), _>(())).await.unwrap_err();
    let refused = |_: Result<&(), &()>| Verdict::refused();
    let call = retry.call(async || Err::<(), _>(())).classify(refused);
    call.await.unwrap_err();
    let unknown = retry.call(async || Err::<(), _>(())).classify(ByResult);
    unknown.await.unwrap_err();
    let hedge = Hedge::new("search", HedgeDelay::OnFailure, 1).unwrap();
    let hedge = hedge.with_observer(MetricsObserver::new());
    hedge.call(async || Err::<(), _>(())).await.unwrap_err();
}

#[test]
fn every_call_every_retry_every_hedge_and_every_wait_is_counted() {
    let book = Book::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&book, || runtime.block_on(calls()));
    let values = book.values.lock().unwrap();
    let told: Vec<_> = values
        .iter()
        .map(|(key, values)| format!("{key}: {values:?}"))
        .collect();
    assert_eq!(
        told,
        [
            "attempts rates attempts: [3.0]",
            "attempts rates final: [1.0]",
            "attempts rates succeeded: [1.0, 2.0]",
            "attempts rates unknown: [1.0]",
            "attempts search attempts: [2.0]",
            "calls_total rates attempts: [1.0]",
            "calls_total rates final: [1.0]",
            "calls_total rates succeeded: [1.0, 1.0]",
            "calls_total rates unknown: [1.0]",
            "calls_total search attempts: [1.0]",
            "hedges_total search: [1.0]",
            "retries_total rates: [1.0, 1.0, 1.0]",
            "wait_seconds rates: [0.5, 0.5, 0.5]",
        ]
    );
}
