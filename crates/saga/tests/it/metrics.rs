//! What is counted, and under which labels.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress_saga::MetricsObserver;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::{calls::Stand, world::Act};

/// Keeps counters, and nothing else.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key
            .labels()
            .map(|it| format!("{}={}", it.key(), it.value()));
        let labels = labels.collect::<Vec<_>>().join(" ");
        let name = format!("{} {labels}", key.name());
        let mut counters = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(counters.entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn each_thing_that_happens_is_counted_once_under_its_labels() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let stand = Stand::new();
    let charge = [
        Act::NotDone,
        Act::Kept(Duration::from_millis(100)),
        Act::AnswerLost,
        Act::NotDone,
    ];
    stand.world.script(1, "charge", &charge);
    stand.world.undo_script(1, "reserve", &[Act::NotDone]);
    stand.start(1).await;
    stand.start(2).await;
    let runner = stand.sagas.runner().saga(&stand.saga);
    let runner = runner.observer(MetricsObserver::new()).build().unwrap();
    runner
        .run_until(tokio::time::sleep(Duration::from_secs(30)))
        .await;
    let counters = counters.0.lock().unwrap();
    let value = |name: &str| {
        let counter = counters.get(name);
        counter.map_or(0, |it| it.load(Ordering::Relaxed))
    };
    for (step, outcome, count) in [
        ("reserve", "done", 2),
        ("charge", "failed", 3),
        ("charge", "postponed", 1),
        ("charge", "done", 1),
        ("charge", "undone", 1),
        ("reserve", "undo_failed", 1),
        ("reserve", "undone", 1),
        ("ship", "done", 1),
        ("confirm", "done", 1),
    ] {
        let name = format!("buttress_saga_steps_total saga=order step={step} outcome={outcome}");
        assert_eq!(value(&name), count, "{name}");
    }
    for (name, count) in [
        ("buttress_saga_rested_total saga=order state=completed", 1),
        ("buttress_saga_rested_total saga=order state=undone", 1),
        ("buttress_saga_turned_back_total saga=order code=BUSY", 1),
        ("buttress_saga_lost_total saga=order", 0),
        ("buttress_saga_claims_total saga=order lapsed=true", 0),
    ] {
        assert_eq!(value(name), count, "{name}");
    }
    assert!(value("buttress_saga_claims_total saga=order lapsed=false") >= 2);
    let labels: u64 = counters.len() as u64;
    assert_eq!(labels, 13, "{:?}", counters.keys());
}
