//! What the `metrics` facade is told, value by value.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use buttress_circuit_breaker::{CircuitBreaker, CircuitBreakers, MetricsObserver, Rate};
use buttress_core::{Clock, Registry};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use crate::stand::{SECOND, ten_seconds};

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

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = key
            .name()
            .strip_prefix("buttress_circuit_breaker_")
            .unwrap();
        Counter::from_arc(Arc::new(One {
            kept: self.clone(),
            key: format!("{name} {}", labels.join(" ")),
        }))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn every_call_rejection_and_change_of_state_is_counted_once_with_its_labels() {
    let kept = Kept::default();
    let (clock, hand) = Clock::manual();
    let policy = ten_seconds()
        .count_window(8)
        .minimum_calls(4)
        .slow_calls(SECOND, Rate::percent(100))
        .half_open_permits(1);
    let breaker = CircuitBreaker::builder("payments")
        .policy(policy.build().unwrap())
        .clock(clock)
        .observer(MetricsObserver::new())
        .build();
    metrics::with_local_recorder(&kept, || {
        let late = breaker.try_acquire().unwrap();
        breaker.try_acquire().unwrap().success();
        breaker.try_acquire().unwrap().ignore();
        drop(breaker.try_acquire().unwrap());
        let slow = breaker.try_acquire().unwrap();
        hand.advance(2 * SECOND);
        slow.failure();
        for _ in 0..2 {
            breaker.try_acquire().unwrap().failure();
        }
        for _ in 0..3 {
            assert!(breaker.try_acquire().is_err());
        }
        late.success();
        hand.advance(10 * SECOND);
        breaker.try_acquire().unwrap().success();
    });
    let counts = kept.counts.lock().unwrap();
    let counts: Vec<_> = counts
        .iter()
        .map(|(key, count)| format!("{key}: {count}"))
        .collect();
    assert_eq!(
        counts,
        [
            "calls_total name=payments outcome=abandoned: 1",
            "calls_total name=payments outcome=failure: 3",
            "calls_total name=payments outcome=ignored: 1",
            "calls_total name=payments outcome=late: 1",
            "calls_total name=payments outcome=success: 2",
            "rejected_total name=payments state=open shadow=false: 3",
            "slow_calls_total name=payments: 1",
            "transitions_total name=payments from=closed to=open cause=failure_rate: 1",
            "transitions_total name=payments from=half_open to=closed cause=probes_succeeded: 1",
            "transitions_total name=payments from=open to=half_open cause=open_time_over: 1",
        ]
    );
}

#[test]
fn metrics_have_no_raw_keys_and_one_tenant_cannot_trip_another() {
    let kept = Kept::default();
    let registry = Registry::new();
    let policy = ten_seconds().count_window(2).build().unwrap();
    let template = CircuitBreaker::builder("tenants")
        .policy(policy)
        .registry(&registry)
        .observer(MetricsObserver::new());
    let tenants = CircuitBreakers::new(template, 100).unwrap();
    metrics::with_local_recorder(&kept, || {
        let evil = tenants.get("evil tenant").unwrap();
        (0..2).for_each(|_| evil.try_acquire().unwrap().failure());
        assert!(evil.try_acquire().is_err());
        for tenant in ["good", "evil", "evil tenant ", "Evil tenant"] {
            tenants
                .get(tenant)
                .unwrap()
                .try_acquire()
                .unwrap()
                .success();
        }
    });
    let mut shown = format!("{:?} {tenants:?}", kept.counts.lock().unwrap());
    for entry in registry.entries() {
        shown += entry.name();
        shown += entry.state();
        entry.gauges(&mut |name, _| shown += name);
    }
    assert!(
        shown.contains("tenants") && !shown.contains("evil"),
        "{shown}"
    );
}

#[test]
fn what_happens_between_the_instances_of_a_fleet_is_counted() {
    use buttress_circuit_breaker::BreakerFleet;
    use buttress_store::board::MemoryBoard;
    let (kept, registry) = (Kept::default(), Registry::new());
    let (board, policy) = (MemoryBoard::new(), ten_seconds().count_window(2));
    let members: Vec<_> = (0..3)
        .map(|_| {
            let breaker = CircuitBreaker::builder("payments");
            let breaker = breaker.policy(policy.clone().build().unwrap()).build();
            let fleet = BreakerFleet::builder("shop", board.clone())
                .observer(MetricsObserver::new())
                .registry(&registry)
                .build()
                .unwrap();
            fleet.add(&breaker).unwrap();
            (breaker, fleet)
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    metrics::with_local_recorder(&kept, || {
        for round in 0..4 {
            for (number, (breaker, fleet)) in members.iter().enumerate() {
                runtime.block_on(fleet.run_once()).unwrap();
                match (round, number) {
                    (0, 0 | 1) => (0..2).for_each(|_| breaker.try_acquire().unwrap().failure()),
                    (2, 0 | 1) => {
                        breaker.close();
                        breaker.try_acquire().unwrap().success();
                    }
                    _ => {}
                }
            }
        }
    });
    let counts = kept.counts.lock().unwrap();
    let fleets: Vec<_> = counts
        .iter()
        .map(|(key, count)| format!("{key}: {count}"))
        .collect();
    assert_eq!(
        fleets,
        [
            "fleet_hastened_total fleet=shop name=payments: 1",
            "fleet_opened_total fleet=shop name=payments: 1",
            "fleet_rounds_total fleet=shop result=shared: 12",
        ]
    );
    let mut gauges = BTreeMap::new();
    registry.entries()[0].gauges(&mut |name, value| {
        gauges.insert(name, value);
    });
    let (members, alone) = ("fleet_members", "fleet_alone");
    let gauge = |name| gauges[format!("buttress_circuit_breaker_{name}").as_str()];
    assert_eq!((gauge(members), gauge(alone)), (3, 0));
}
