//! What happens, counted through the `metrics` facade.

use buttress_core::{Observer, Outcome};
use metrics::counter;

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
}

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
