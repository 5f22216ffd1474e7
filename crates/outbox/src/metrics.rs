//! What happens, and how a topic is doing, through the `metrics` facade.

use buttress_core::Observer;
use metrics::{counter, gauge};

use crate::{Counts, Event, EventKind, Topic};

/// An observer that counts what happens, for whatever recorder is installed. The label is the
/// topic; keys and ids are never labels.
///
/// | counter | further label |
/// | --- | --- |
/// | `buttress_outbox_delivered_total` | |
/// | `buttress_outbox_stale_total` | |
/// | `buttress_outbox_set_aside_total` | |
/// | `buttress_outbox_died_total` | |
/// | `buttress_outbox_lapsed_total` | |
/// | `buttress_outbox_outages_total` | `kind`: down, gone, hung |
/// | `buttress_outbox_lanes_total` | `kind`: claimed, lapsed, `handed_back`, lost |
/// | `buttress_outbox_store_failures_total` | `operation` |
///
/// What is true now is told by [`MetricsObserver::gauges`], from [`Outbox::counts`](crate::Outbox::counts):
/// `buttress_outbox_depth`, `_oldest_age_seconds`, `_waiting_keys`, `_blocked_keys`, `_dead`,
/// `_held_lanes`, `_paused`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct MetricsObserver {}

impl MetricsObserver {
    /// One; there is nothing to choose.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
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
    }
}

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
            EventKind::SetAside { keys } => add("buttress_outbox_set_aside_total", keys),
            EventKind::Died { messages } => add("buttress_outbox_died_total", messages),
            EventKind::Lapsed { .. } => add("buttress_outbox_lapsed_total", 1),
            EventKind::Down { .. } => of_kind(outages, "down", 1),
            EventKind::Gone => of_kind(outages, "gone", 1),
            EventKind::Hung { .. } => of_kind(outages, "hung", 1),
            EventKind::Back => {}
            EventKind::StoreFailed { operation, .. } => {
                counter!("buttress_outbox_store_failures_total", "topic" => topic.clone(),
                    "operation" => operation)
                .increment(1);
            }
        }
    }
}
