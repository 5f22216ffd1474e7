//! What happens, counted through the `metrics` facade.

use buttress_core::Observer;
use metrics::counter;

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
}

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
