//! What the `metrics` facade is told, value by value.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use buttress_cache_aside::{Cache, Loaded, MetricsObserver};
use futures_util::FutureExt as _;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use crate::stand::{failed, policy};

/// Keeps all that was counted, by name and labels as text.
#[derive(Clone, Debug, Default)]
struct Kept {
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
}

struct One {
    kept: Kept,
    key: String,
}

impl CounterFn for One {
    fn increment(&self, value: u64) {
        let mut counts = self.kept.counts.lock().unwrap();
        *counts.entry(self.key.clone()).or_default() += value;
    }

    fn absolute(&self, _: u64) {
        panic!("nothing here is absolute");
    }
}

impl HistogramFn for One {
    fn record(&self, _: f64) {
        self.increment(1);
    }
}

impl Kept {
    fn one(&self, key: &Key) -> Arc<One> {
        let name = key.name().strip_prefix("buttress_cache_aside_").unwrap();
        let labels = key.labels();
        let labels: Vec<_> = labels
            .map(|label| format!(" {}={}", label.key(), label.value()))
            .collect();
        Arc::new(One {
            kept: self.clone(),
            key: format!("{name}{}", labels.concat()),
        })
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

#[test]
fn each_read_load_write_and_invalidation_is_counted_once_with_its_labels() {
    let kept = Kept::default();
    let policy = policy()
        .no_hard_timeout()
        .max_entry_weight(10)
        .build()
        .unwrap();
    let cache = Cache::<u32>::builder("numbers", policy)
        .observer(MetricsObserver::new())
        .build();
    let told = async {
        let load = || async { Ok::<_, io::Error>(1) };
        let fails = || async { Err::<u32, _>(failed()) };
        let heavy = || async { Ok::<_, io::Error>(Loaded::new(1).weight(11)) };
        for _ in 0..3 {
            cache.get_or_load("key", load).await.unwrap();
        }
        cache.get_or_load("fails", fails).await.unwrap_err();
        cache.get_or_load("heavy", heavy).await.unwrap();
        cache.put("other", 1).await;
        cache.invalidate("other").await;
        cache.invalidate_tag("t").await;
        cache.clear().await;
    };
    metrics::with_local_recorder(&kept, || told.now_or_never().unwrap());
    let counts = kept.counts.lock().unwrap();
    let counts: Vec<_> = counts
        .iter()
        .map(|(key, count)| format!("{key}: {count}"))
        .collect();
    let expected = [
        "hits_total name=numbers stale=false negative=false: 2",
        "invalidations_total name=numbers what=all: 1",
        "invalidations_total name=numbers what=key: 1",
        "invalidations_total name=numbers what=tag: 1",
        "load_seconds name=numbers: 3",
        "loads_total name=numbers outcome=error: 1",
        "loads_total name=numbers outcome=kept: 1",
        "loads_total name=numbers outcome=too_large: 1",
        "misses_total name=numbers collapsed=false: 3",
        "puts_total name=numbers: 1",
    ];
    assert_eq!(counts, expected);
}
