//! What happens, and how a topic is doing, through the `metrics` facade.

use buttress_core::Observer;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::{Counts, Event, EventKind, Topic};

/// An observer that counts what happens, for whatever recorder is installed. The label is the
/// topic; keys and ids are never labels.
///
/// | counter | further label |
/// | --- | --- |
/// | `buttress_outbox_delivered_total` | |
/// | `buttress_outbox_stale_total` | |
/// | `buttress_outbox_held_back_total`: seconds, about | |
/// | `buttress_outbox_set_aside_total` | |
/// | `buttress_outbox_died_total` | |
/// | `buttress_outbox_lapsed_total` | |
/// | `buttress_outbox_outages_total` | `kind`: down, gone, hung |
/// | `buttress_outbox_lanes_total` | `kind`: claimed, lapsed, `handed_back`, lost |
/// | `buttress_outbox_truncated_total`: pieces of the ring | |
/// | `buttress_outbox_pinned_total`: attempts that left one | |
/// | `buttress_outbox_store_failures_total` | `operation` |
///
/// What is true now is told by [`MetricsObserver::gauges`], from [`Outbox::counts`](crate::Outbox::counts):
/// `buttress_outbox_depth`, `_oldest_age_seconds`, `_waiting_keys`, `_blocked_keys`, `_dead`,
/// `_held_lanes`, `_paused`, `_writers`, `_oldest_writer_seconds`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct MetricsObserver {}

impl MetricsObserver {
    /// One; there is nothing to choose.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }

    /// Tells the recorder what each figure is, in a sentence: for Prometheus' `HELP`, say. Once, when
    /// the recorder is installed; without one nothing happens.
    pub fn describe() {
        for (name, what) in COUNTERS {
            describe_counter!(*name, *what);
        }
        for (name, what) in GAUGES {
            describe_gauge!(*name, *what);
        }
        describe_gauge!(
            "buttress_outbox_oldest_age_seconds",
            Unit::Seconds,
            "How long the oldest message has waited."
        );
        describe_gauge!(
            "buttress_outbox_oldest_writer_seconds",
            Unit::Seconds,
            "For how long the oldest of these transactions has been open."
        );
    }

    /// Sets the gauges of a topic.
    pub fn gauges(topic: &Topic, counts: &Counts) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float; beyond 2^53 messages it may be off by one"
        )]
        let set = |name: &'static str, value: u64| {
            gauge!(name, "topic" => topic.as_str().to_owned()).set(value as f64);
        };
        set("buttress_outbox_depth", counts.depth);
        set("buttress_outbox_waiting_keys", counts.waiting_keys);
        set("buttress_outbox_blocked_keys", counts.blocked_keys);
        set("buttress_outbox_dead", counts.dead);
        set("buttress_outbox_held_lanes", counts.held_lanes);
        set("buttress_outbox_paused", counts.paused.into());
        gauge!("buttress_outbox_oldest_age_seconds", "topic" => topic.as_str().to_owned())
            .set(counts.oldest_age.as_secs_f64());
        set("buttress_outbox_writers", counts.writers);
        gauge!("buttress_outbox_oldest_writer_seconds", "topic" => topic.as_str().to_owned())
            .set(counts.oldest_writer.as_secs_f64());
    }
}

/// Counters, and what they count.
const COUNTERS: &[(&str, &str)] = &[
    (
        "buttress_outbox_delivered_total",
        "Messages that were delivered.",
    ),
    (
        "buttress_outbox_stale_total",
        "Messages that were delivered when their lane had another owner, who delivers them again.",
    ),
    (
        "buttress_outbox_set_aside_total",
        "Keys that were set aside, for their head waits.",
    ),
    (
        "buttress_outbox_died_total",
        "Messages that became dead letters.",
    ),
    (
        "buttress_outbox_lapsed_total",
        "Messages over which whoever published them alone died.",
    ),
    (
        "buttress_outbox_outages_total",
        "Destinations that failed as a whole, by the kind.",
    ),
    (
        "buttress_outbox_lanes_total",
        "Lanes that were claimed, lapsed, handed back or lost.",
    ),
    (
        "buttress_outbox_store_failures_total",
        "Operations that the store failed.",
    ),
    (
        "buttress_outbox_held_back_total",
        "Looks at a line of all keys that an open transaction held back.",
    ),
    (
        "buttress_outbox_truncated_total",
        "Pieces of the ring that were emptied.",
    ),
    (
        "buttress_outbox_pinned_total",
        "Attempts that could not empty all pieces whose time had passed.",
    ),
];

/// Gauges, which are told from what is true now.
const GAUGES: &[(&str, &str)] = &[
    ("buttress_outbox_depth", "Messages that wait."),
    ("buttress_outbox_waiting_keys", "Keys that wait for a time."),
    (
        "buttress_outbox_blocked_keys",
        "Keys that wait for somebody to decide.",
    ),
    ("buttress_outbox_dead", "Dead letters."),
    ("buttress_outbox_held_lanes", "Lanes that somebody holds."),
    ("buttress_outbox_paused", "1 while the topic is paused."),
    (
        "buttress_outbox_writers",
        "Transactions that hold back a line of all keys.",
    ),
];

impl Observer<Event> for MetricsObserver {
    fn on_event(&self, event: &Event) {
        let topic = event.topic.as_str().to_owned();
        let add = |name: &'static str, number: usize| {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            counter!(name, "topic" => topic.clone()).increment(number);
        };
        let of_kind = |name: &'static str, kind: &'static str, number: usize| {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            counter!(name, "topic" => topic.clone(), "kind" => kind).increment(number);
        };
        let lanes = "buttress_outbox_lanes_total";
        let outages = "buttress_outbox_outages_total";
        match event.kind {
            EventKind::Claimed {
                lanes: claimed,
                lapsed,
            } => {
                of_kind(lanes, "claimed", claimed);
                of_kind(lanes, "lapsed", lapsed);
            }
            EventKind::HandedBack { lanes: back } => of_kind(lanes, "handed_back", back),
            EventKind::Lost { lanes: lost } => of_kind(lanes, "lost", lost),
            EventKind::Delivered { messages } => add("buttress_outbox_delivered_total", messages),
            EventKind::Stale { messages } => add("buttress_outbox_stale_total", messages),
            EventKind::HeldBack { .. } => add("buttress_outbox_held_back_total", 1),
            EventKind::SetAside { keys } => add("buttress_outbox_set_aside_total", keys),
            EventKind::Died { messages } => add("buttress_outbox_died_total", messages),
            EventKind::Lapsed { .. } => add("buttress_outbox_lapsed_total", 1),
            EventKind::Down { .. } => of_kind(outages, "down", 1),
            EventKind::Gone => of_kind(outages, "gone", 1),
            EventKind::Hung { .. } => of_kind(outages, "hung", 1),
            EventKind::Back => {}
            EventKind::Truncated { pieces } => add("buttress_outbox_truncated_total", pieces),
            EventKind::Pinned { .. } => add("buttress_outbox_pinned_total", 1),
            EventKind::StoreFailed { operation, .. } => {
                counter!("buttress_outbox_store_failures_total", "topic" => topic.clone(),
                    "operation" => operation)
                .increment(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use buttress_core::Class;
    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder,
        SharedString, Unit, with_local_recorder,
    };

    use super::*;

    /// Keeps all that was told, by name and labels as text.
    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<BTreeMap<String, f64>>>);

    struct One(Kept, String);

    impl CounterFn for One {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        fn increment(&self, value: u64) {
            *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += value as f64;
        }

        fn absolute(&self, _: u64) {
            panic!("nothing here is absolute");
        }
    }

    impl GaugeFn for One {
        fn increment(&self, _: f64) {
            panic!("gauges are set");
        }

        fn decrement(&self, _: f64) {
            panic!("gauges are set");
        }

        fn set(&self, value: f64) {
            self.0.0.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl Kept {
        fn one(&self, key: &Key) -> Arc<One> {
            let labels = key
                .labels()
                .map(|it| format!(" {}={}", it.key(), it.value()));
            let name = key.name().strip_prefix("buttress_outbox_").unwrap();
            let text = format!("{name}{}", labels.collect::<String>());
            Arc::new(One(self.clone(), text))
        }

        /// What was told since, in the order of names.
        fn take(&self) -> Vec<(String, f64)> {
            std::mem::take(&mut *self.0.lock().unwrap())
                .into_iter()
                .collect()
        }
    }

    impl Recorder for Kept {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.one(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.one(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            panic!("there are none");
        }
    }

    fn told(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
        let told = |(name, value): &(&str, f64)| ((*name).to_owned(), *value);
        expected.iter().map(told).collect()
    }

    #[test]
    fn every_event_is_counted_by_its_number_with_its_labels() {
        let kept = Kept::default();
        let wait = Duration::from_secs(1);
        let rows: Vec<(EventKind, &[(&str, f64)])> = vec![
            (
                EventKind::Claimed {
                    lanes: 5,
                    lapsed: 2,
                },
                &[
                    ("lanes_total topic=t kind=claimed", 5.0),
                    ("lanes_total topic=t kind=lapsed", 2.0),
                ],
            ),
            (
                EventKind::HandedBack { lanes: 3 },
                &[("lanes_total topic=t kind=handed_back", 3.0)],
            ),
            (
                EventKind::Lost { lanes: 4 },
                &[("lanes_total topic=t kind=lost", 4.0)],
            ),
            (
                EventKind::Delivered { messages: 500 },
                &[("delivered_total topic=t", 500.0)],
            ),
            (
                EventKind::Stale { messages: 7 },
                &[("stale_total topic=t", 7.0)],
            ),
            (
                EventKind::HeldBack {
                    messages: 3,
                    time: wait,
                },
                &[("held_back_total topic=t", 1.0)],
            ),
            (
                EventKind::SetAside { keys: 6 },
                &[("set_aside_total topic=t", 6.0)],
            ),
            (
                EventKind::Died { messages: 2 },
                &[("died_total topic=t", 2.0)],
            ),
            (
                EventKind::Lapsed { sequence: 99 },
                &[("lapsed_total topic=t", 1.0)],
            ),
            (
                EventKind::Down { wait },
                &[("outages_total topic=t kind=down", 1.0)],
            ),
            (EventKind::Gone, &[("outages_total topic=t kind=gone", 1.0)]),
            (
                EventKind::Hung { panicked: true },
                &[("outages_total topic=t kind=hung", 1.0)],
            ),
            (EventKind::Back, &[]),
            (
                EventKind::Truncated { pieces: 2 },
                &[("truncated_total topic=t", 2.0)],
            ),
            (
                EventKind::Pinned { pieces: 3, busy: 1 },
                &[("pinned_total topic=t", 1.0)],
            ),
            (
                EventKind::StoreFailed {
                    operation: "turn",
                    class: Class::Unknown,
                },
                &[("store_failures_total topic=t operation=turn", 1.0)],
            ),
        ];
        let topic = Topic::new("t").unwrap();
        for (kind, expected) in rows {
            let event = Event {
                topic: topic.clone(),
                kind,
            };
            with_local_recorder(&kept, || {
                MetricsObserver::new().on_event(&event);
                MetricsObserver::new().on_event(&event);
            });
            let twice: Vec<_> = expected.iter().map(|it| (it.0, it.1 * 2.0)).collect();
            assert_eq!(kept.take(), told(&twice), "{event:?}");
        }
    }

    #[test]
    fn every_count_is_a_gauge_and_the_last_one_stands() {
        let kept = Kept::default();
        let counts = Counts {
            depth: 9,
            oldest_age: Duration::from_millis(1500),
            waiting_keys: 4,
            blocked_keys: 3,
            dead: 2,
            held_lanes: 64,
            paused: true,
            writers: 2,
            oldest_writer: Duration::from_millis(2500),
        };
        with_local_recorder(&kept, || {
            let topic = Topic::new("t").unwrap();
            MetricsObserver::gauges(&topic, &Counts::default());
            MetricsObserver::gauges(&topic, &counts);
        });
        let expected = [
            ("blocked_keys topic=t", 3.0),
            ("dead topic=t", 2.0),
            ("depth topic=t", 9.0),
            ("held_lanes topic=t", 64.0),
            ("oldest_age_seconds topic=t", 1.5),
            ("oldest_writer_seconds topic=t", 2.5),
            ("paused topic=t", 1.0),
            ("waiting_keys topic=t", 4.0),
            ("writers topic=t", 2.0),
        ];
        assert_eq!(kept.take(), told(&expected));
    }
}
