//! What happens, counted through the `metrics` facade.

use buttress_core::Observer;
use metrics::{counter, describe_counter, describe_gauge};

use crate::{Event, EventKind};

/// An observer that counts what happens, for whatever recorder is installed:
///
/// | counter | labels |
/// | --- | --- |
/// | `buttress_rate_limiter_allowed_total` | `name` |
/// | `buttress_rate_limiter_refused_total` | `name`, `shadow` |
/// | `buttress_rate_limiter_turned_away_total` | `name` |
/// | `buttress_rate_limiter_keys_forgotten_total` | `name` |
/// | `buttress_rate_limiter_keys_pruned_total` | `name` |
/// | `buttress_rate_limiter_store_failures_total` | `name`, `instead` |
///
/// The first two count permits. Keys are no labels: they are the callers' data. What is true now (what is
/// left, how many wait) is read from the `Registry`.
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
    }
}

/// Counters, and what they count.
const COUNTERS: &[(&str, &str)] = &[
    (
        "buttress_rate_limiter_allowed_total",
        "Permits that were given.",
    ),
    (
        "buttress_rate_limiter_refused_total",
        "Permits that were refused, or in the shadow would have been.",
    ),
    (
        "buttress_rate_limiter_turned_away_total",
        "Callers that would have waited and were turned away.",
    ),
    (
        "buttress_rate_limiter_keys_forgotten_total",
        "Keys that were forgotten for want of space and were not idle.",
    ),
    (
        "buttress_rate_limiter_keys_pruned_total",
        "Idle keys that were removed from the store.",
    ),
    (
        "buttress_rate_limiter_store_failures_total",
        "Decisions that were made without the store, by what was done instead.",
    ),
];

/// Gauges, which are told from what is true now.
const GAUGES: &[(&str, &str)] = &[
    (
        "buttress_rate_limiter_limit",
        "Permits of the quota at once.",
    ),
    ("buttress_rate_limiter_remaining", "Permits that are left."),
    ("buttress_rate_limiter_waiting", "Callers in line."),
    ("buttress_rate_limiter_keys", "Keys in memory."),
    (
        "buttress_rate_limiter_keys_forgotten",
        "Keys that were forgotten and were not idle, since the start.",
    ),
    (
        "buttress_rate_limiter_store_down",
        "1 while the store does not answer.",
    ),
    (
        "buttress_concurrency_limiter_limit",
        "Places that there are now.",
    ),
    (
        "buttress_concurrency_limiter_running",
        "Places that are taken.",
    ),
    (
        "buttress_concurrency_limiter_waiting",
        "Callers in line for a place.",
    ),
];

impl Observer<Event> for MetricsObserver {
    fn on_event(&self, event: &Event) {
        let name = event.name.clone();
        match event.kind {
            EventKind::Allowed { permits } => {
                counter!("buttress_rate_limiter_allowed_total", "name" => name).increment(permits);
            }
            EventKind::Refused {
                permits, shadow, ..
            } => {
                let shadow = if shadow { "true" } else { "false" };
                counter!("buttress_rate_limiter_refused_total", "name" => name, "shadow" => shadow)
                    .increment(permits);
            }
            EventKind::TurnedAway => {
                counter!("buttress_rate_limiter_turned_away_total", "name" => name).increment(1);
            }
            EventKind::KeysForgotten { keys } => {
                counter!("buttress_rate_limiter_keys_forgotten_total", "name" => name)
                    .increment(keys);
            }
            EventKind::KeysPruned { keys } => {
                counter!("buttress_rate_limiter_keys_pruned_total", "name" => name).increment(keys);
            }
            EventKind::StoreFailed { instead } => {
                counter!("buttress_rate_limiter_store_failures_total", "name" => name,
                    "instead" => instead)
                .increment(1);
            }
            EventKind::StoreRecovered | EventKind::QuotaChanged | EventKind::LimitMoved { .. } => {}
        }
    }
}
