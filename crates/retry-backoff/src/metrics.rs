//! What happens, counted through the `metrics` facade.

use buttress_core::Observer;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

use crate::Event;

/// An observer that counts what happens, for whatever recorder is installed:
///
/// | metric | kind | labels |
/// | --- | --- | --- |
/// | `buttress_retry_backoff_calls_total` | counter | `name`, `result`: succeeded, or why it was given up, as [`Stopped::as_str`](crate::Stopped::as_str) says it |
/// | `buttress_retry_backoff_attempts` | histogram | `name`, `result`; how many attempts the call took |
/// | `buttress_retry_backoff_retries_total` | counter | `name` |
/// | `buttress_retry_backoff_hedges_total` | counter | `name` |
/// | `buttress_retry_backoff_wait_seconds` | histogram | `name`; how long until the next attempt |
/// | `buttress_retry_backoff_fleet_rounds_total` | counter | `fleet`, `result`: shared, alone; a `BudgetFleet`'s, to which it is given as an observer as well |
///
/// Retries and hedges over calls is the load that this handle adds. What a budget has left is read
/// from the `Registry`.
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
        describe_histogram!(
            "buttress_retry_backoff_attempts",
            "Attempts that a call took."
        );
        describe_histogram!(
            "buttress_retry_backoff_wait_seconds",
            Unit::Seconds,
            "Time until the next attempt."
        );
        for (name, what) in GAUGES {
            describe_gauge!(*name, *what);
        }
    }
}

/// Counters, and what they count.
const COUNTERS: &[(&str, &str)] = &[
    (
        "buttress_retry_backoff_calls_total",
        "Calls that ended, by their result.",
    ),
    (
        "buttress_retry_backoff_retries_total",
        "Attempts after the first.",
    ),
    (
        "buttress_retry_backoff_hedges_total",
        "Attempts that were begun beside a slow one.",
    ),
    (
        "buttress_retry_backoff_fleet_rounds_total",
        "Exchanges of a fleet with its board, by whether it answered.",
    ),
];

/// Gauges, which are told from what is true now.
const GAUGES: &[(&str, &str)] = &[
    (
        "buttress_retry_backoff_budget_available",
        "Retries that the budget would let through.",
    ),
    (
        "buttress_retry_backoff_fleet_members",
        "Members of the fleet that are seen on its board.",
    ),
    (
        "buttress_retry_backoff_fleet_alone",
        "1 while the board of the fleet does not answer.",
    ),
];

impl Observer<Event> for MetricsObserver {
    fn on_event(&self, event: &Event) {
        let ended = |name: &std::sync::Arc<str>, attempts: u32, result: &'static str| {
            counter!("buttress_retry_backoff_calls_total", "name" => name.clone(), "result" => result)
                .increment(1);
            histogram!("buttress_retry_backoff_attempts", "name" => name.clone(), "result" => result)
                .record(attempts);
        };
        match event {
            Event::Retrying { name, wait, .. } => {
                counter!("buttress_retry_backoff_retries_total", "name" => name.clone())
                    .increment(1);
                histogram!("buttress_retry_backoff_wait_seconds", "name" => name.clone())
                    .record(wait.as_secs_f64());
            }
            Event::Hedged { name, .. } => {
                counter!("buttress_retry_backoff_hedges_total", "name" => name.clone())
                    .increment(1);
            }
            Event::Succeeded { name, attempts } => ended(name, *attempts, "succeeded"),
            Event::GaveUp {
                name,
                attempts,
                stopped,
            } => ended(name, *attempts, stopped.as_str()),
        }
    }
}

#[cfg(feature = "fleet")]
impl Observer<crate::FleetEvent> for MetricsObserver {
    fn on_event(&self, event: &crate::FleetEvent) {
        let result = match event.kind {
            crate::FleetEventKind::Exchanged => "shared",
            crate::FleetEventKind::Failed { .. } => "alone",
        };
        counter!("buttress_retry_backoff_fleet_rounds_total", "fleet" => event.fleet.clone(), "result" => result)
            .increment(1);
    }
}
