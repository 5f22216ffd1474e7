//! What happens, counted through the `metrics` facade.

use buttress_core::{Observer, Outcome};
use metrics::{counter, describe_counter, describe_gauge};

use crate::{Event, EventKind, State};

/// An observer that counts what happens, for whatever recorder is installed:
///
/// | counter | labels |
/// | --- | --- |
/// | `buttress_circuit_breaker_calls_total` | `name`, `outcome`: success, failure, ignored, abandoned, late |
/// | `buttress_circuit_breaker_slow_calls_total` | `name` |
/// | `buttress_circuit_breaker_rejected_total` | `name`, `state`, `shadow` |
/// | `buttress_circuit_breaker_transitions_total` | `name`, `from`, `to`, `cause` |
/// | `buttress_circuit_breaker_fleet_rounds_total` | `fleet`, `result`: shared, alone |
/// | `buttress_circuit_breaker_fleet_opened_total` | `fleet`, `name` |
/// | `buttress_circuit_breaker_fleet_hastened_total` | `fleet`, `name` |
///
/// The last three are a `BreakerFleet`'s, to which it is given as an observer as well.
///
/// Keys of `CircuitBreakers` are no labels: they are the callers' data. What is true now (open,
/// counts of the window) is read from the `Registry`.
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
        "buttress_circuit_breaker_calls_total",
        "Calls that were let through, by how they ended.",
    ),
    (
        "buttress_circuit_breaker_slow_calls_total",
        "Calls that took longer than the policy calls slow.",
    ),
    (
        "buttress_circuit_breaker_rejected_total",
        "Calls that were rejected, or in the shadow would have been.",
    ),
    (
        "buttress_circuit_breaker_transitions_total",
        "Changes of state.",
    ),
    (
        "buttress_circuit_breaker_fleet_rounds_total",
        "Exchanges of a fleet with its board, by whether it answered.",
    ),
    (
        "buttress_circuit_breaker_fleet_opened_total",
        "Breakers that were opened by what others of the fleet saw.",
    ),
    (
        "buttress_circuit_breaker_fleet_hastened_total",
        "Breakers that others had opened and that may try again, for the others are well.",
    ),
];

/// Gauges, which are told from what is true now.
const GAUGES: &[(&str, &str)] = &[
    (
        "buttress_circuit_breaker_open",
        "1 while the breaker rejects.",
    ),
    (
        "buttress_circuit_breaker_window_calls",
        "Calls in the window.",
    ),
    (
        "buttress_circuit_breaker_window_failed",
        "Calls in the window that failed.",
    ),
    (
        "buttress_circuit_breaker_window_slow",
        "Calls in the window that were slow.",
    ),
    (
        "buttress_circuit_breaker_window_abandoned",
        "Calls in the window that never said how they ended.",
    ),
    (
        "buttress_circuit_breaker_openings",
        "How often the breaker has opened.",
    ),
    (
        "buttress_circuit_breaker_late_results",
        "Results of an earlier state, which are not counted.",
    ),
    ("buttress_circuit_breaker_keys", "Keys that are known."),
    (
        "buttress_circuit_breaker_keys_not_closed",
        "Keys whose breaker is not closed.",
    ),
    (
        "buttress_circuit_breaker_keys_overflowed",
        "Keys that found no place.",
    ),
    (
        "buttress_circuit_breaker_fleet_members",
        "Members of the fleet that are seen on its board.",
    ),
    (
        "buttress_circuit_breaker_fleet_alone",
        "1 while the board of the fleet does not answer.",
    ),
];

impl Observer<Event> for MetricsObserver {
    fn on_event(&self, event: &Event) {
        let name = event.name.clone();
        let call = |outcome: &'static str| {
            counter!("buttress_circuit_breaker_calls_total", "name" => name.clone(), "outcome" => outcome)
                .increment(1);
        };
        match event.kind {
            EventKind::Settled { outcome, slow } => {
                call(match outcome {
                    Outcome::Success => "success",
                    Outcome::Failure => "failure",
                    _ => "ignored",
                });
                if slow {
                    counter!("buttress_circuit_breaker_slow_calls_total", "name" => name.clone())
                        .increment(1);
                }
            }
            EventKind::Abandoned => call("abandoned"),
            EventKind::Late => call("late"),
            EventKind::Rejected { state, shadow } => {
                let state: State = state;
                counter!("buttress_circuit_breaker_rejected_total", "name" => name.clone(),
                    "state" => state.as_str(), "shadow" => if shadow { "true" } else { "false" })
                .increment(1);
            }
            EventKind::Moved { from, to, cause } => {
                counter!("buttress_circuit_breaker_transitions_total", "name" => name.clone(),
                    "from" => from.as_str(), "to" => to.as_str(), "cause" => cause.as_str())
                .increment(1);
            }
            EventKind::Exceeded { .. } => {}
        }
    }
}

#[cfg(feature = "fleet")]
impl Observer<crate::FleetEvent> for MetricsObserver {
    fn on_event(&self, event: &crate::FleetEvent) {
        use crate::FleetEventKind as Kind;
        let fleet = || event.fleet.clone();
        let round = |result: &'static str| {
            counter!("buttress_circuit_breaker_fleet_rounds_total", "fleet" => fleet(), "result" => result)
                .increment(1);
        };
        match &event.kind {
            Kind::Exchanged => round("shared"),
            Kind::Failed { .. } => round("alone"),
            Kind::Opened { name, .. } => {
                counter!("buttress_circuit_breaker_fleet_opened_total", "fleet" => fleet(), "name" => name.clone())
                    .increment(1);
            }
            Kind::Hastened { name, .. } => {
                counter!("buttress_circuit_breaker_fleet_hastened_total", "fleet" => fleet(), "name" => name.clone())
                    .increment(1);
            }
        }
    }
}
