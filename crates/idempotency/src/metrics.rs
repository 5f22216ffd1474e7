//! What happens, counted through the `metrics` facade.

use buttress_core::Observer;
use metrics::{counter, describe_counter, describe_gauge};

use crate::{Event, EventKind};

/// An observer that counts what happens, for whatever recorder is installed:
///
/// | counter | labels |
/// | --- | --- |
/// | `buttress_idempotency_begun_total` | `name`, `answer`: `new`, `resumed`, `replayed`, `in_flight`, `mismatch`, `unprotected` |
/// | `buttress_idempotency_ended_total` | `name`, `verdict`: completed, released, doubted, refused |
/// | `buttress_idempotency_abandoned_total` | `name` |
/// | `buttress_idempotency_leases_lost_total` | `name` |
/// | `buttress_idempotency_store_failures_total` | `name`, `operation` |
/// | `buttress_idempotency_phases_total` | `name` |
/// | `buttress_idempotency_drives_total` | `name`, `step`: adopted, postponed, parked |
/// | `buttress_idempotency_reaped_total` | `name` |
///
/// Keys are no labels. What is in flight now is read from the `Registry`.
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
        "buttress_idempotency_begun_total",
        "Keys that were asked for, by the answer.",
    ),
    (
        "buttress_idempotency_ended_total",
        "Claims that ended, by the verdict.",
    ),
    (
        "buttress_idempotency_abandoned_total",
        "Claims that were dropped without a verdict.",
    ),
    (
        "buttress_idempotency_leases_lost_total",
        "Claims that were lost while their work went on.",
    ),
    (
        "buttress_idempotency_store_failures_total",
        "Operations that the store failed.",
    ),
    (
        "buttress_idempotency_phases_total",
        "Phases that were passed.",
    ),
    (
        "buttress_idempotency_drives_total",
        "What the completer did with keys that were left.",
    ),
    (
        "buttress_idempotency_reaped_total",
        "Records that had expired and were removed.",
    ),
    (
        "buttress_idempotency_requests_not_kept_total",
        "Requests that only their client can finish, by the reason.",
    ),
];

/// Gauges, which are told from what is true now.
const GAUGES: &[(&str, &str)] = &[
    (
        "buttress_idempotency_in_flight",
        "Keys that this process holds.",
    ),
    ("buttress_idempotency_tasks", "Detached work under way."),
];

impl Observer<Event> for MetricsObserver {
    fn on_event(&self, event: &Event) {
        let name = event.name.clone();
        let begun = |answer: &'static str| {
            counter!("buttress_idempotency_begun_total", "name" => name.clone(), "answer" => answer)
                .increment(1);
        };
        let ended = |verdict: &'static str| {
            counter!("buttress_idempotency_ended_total", "name" => name.clone(), "verdict" => verdict)
                .increment(1);
        };
        let driven = |step: &'static str| {
            counter!("buttress_idempotency_drives_total", "name" => name.clone(), "step" => step)
                .increment(1);
        };
        match event.kind {
            EventKind::Claimed { epoch: ..=1 } => begun("new"),
            EventKind::Claimed { .. } => begun("resumed"),
            EventKind::Replayed => begun("replayed"),
            EventKind::InFlight => begun("in_flight"),
            EventKind::Mismatched => begun("mismatch"),
            EventKind::Unprotected => begun("unprotected"),
            EventKind::Completed => ended("completed"),
            EventKind::Released => ended("released"),
            EventKind::Doubted => ended("doubted"),
            EventKind::Refused => ended("refused"),
            EventKind::Adopted { .. } => driven("adopted"),
            EventKind::Postponed => driven("postponed"),
            EventKind::Parked => driven("parked"),
            EventKind::Passed => {
                counter!("buttress_idempotency_phases_total", "name" => name).increment(1);
            }
            EventKind::Abandoned => {
                counter!("buttress_idempotency_abandoned_total", "name" => name).increment(1);
            }
            EventKind::LeaseLost { .. } => {
                counter!("buttress_idempotency_leases_lost_total", "name" => name).increment(1);
            }
            EventKind::StoreFailed { operation } => {
                counter!("buttress_idempotency_store_failures_total",
                    "name" => name, "operation" => operation)
                .increment(1);
            }
            EventKind::NotKept { reason } => {
                counter!("buttress_idempotency_requests_not_kept_total",
                    "name" => name, "reason" => reason.as_str())
                .increment(1);
            }
            EventKind::Reaped { records } => {
                counter!("buttress_idempotency_reaped_total", "name" => name).increment(records);
            }
        }
    }
}
