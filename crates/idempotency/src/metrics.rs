//! What happens, counted through the `metrics` facade.

use buttress_core::Observer;
use metrics::counter;

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
}

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
