//! What happens, counted through the `metrics` facade.

use buttress_core::Observer;
use metrics::{counter, describe_counter};

use crate::{Event, EventKind, FailureKind};

/// An observer that counts what happens, for whatever recorder is installed:
///
/// | counter | labels |
/// | --- | --- |
/// | `buttress_saga_steps_total` | `saga`, `step`, `outcome`: `done`, `failed`, `undone`, `undo_failed`, `postponed` |
/// | `buttress_saga_rested_total` | `saga`, `state` |
/// | `buttress_saga_turned_back_total` | `saga`, `code` |
/// | `buttress_saga_children_total` | `saga`, `step`, `what`: `started`, `called_back` |
/// | `buttress_saga_claims_total` | `saga`, `lapsed` |
/// | `buttress_saga_lost_total` | `saga` |
///
/// Names and codes are the program's own words. How many sagas there are in which state is read
/// from [`Sagas::census`](crate::Sagas::census).
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
    }
}

/// Counters, and what they count.
const COUNTERS: &[(&str, &str)] = &[
    (
        "buttress_saga_steps_total",
        "Steps and undos that ended, by their outcome.",
    ),
    (
        "buttress_saga_rested_total",
        "Sagas that came to rest, by their state.",
    ),
    (
        "buttress_saga_turned_back_total",
        "Sagas that began to undo, by the code of the reason.",
    ),
    (
        "buttress_saga_children_total",
        "Children that were started or called back.",
    ),
    (
        "buttress_saga_claims_total",
        "Claims, by whether the one before had lapsed.",
    ),
    (
        "buttress_saga_lost_total",
        "Sagas that their runner lost: the lease ran out, or somebody intervened.",
    ),
];

impl Observer<Event> for MetricsObserver {
    fn on_event(&self, event: &Event) {
        let saga = event.name.clone();
        let step = |step: &String, outcome: &'static str| {
            counter!("buttress_saga_steps_total", "saga" => event.name.clone(),
                "step" => step.clone(), "outcome" => outcome)
            .increment(1);
        };
        match &event.kind {
            EventKind::StepDone { step: name, .. } => step(name, "done"),
            EventKind::StepFailed {
                step: name,
                kind: FailureKind::Postponed,
                ..
            }
            | EventKind::UndoFailed {
                step: name,
                kind: FailureKind::Postponed,
                ..
            } => step(name, "postponed"),
            EventKind::StepFailed { step: name, .. } => step(name, "failed"),
            EventKind::StepUndone { step: name } => step(name, "undone"),
            EventKind::UndoFailed { step: name, .. } => step(name, "undo_failed"),
            EventKind::Rested { state, .. } => {
                counter!("buttress_saga_rested_total", "saga" => saga, "state" => state.as_str())
                    .increment(1);
            }
            EventKind::TurnedBack { code } => {
                counter!("buttress_saga_turned_back_total", "saga" => saga, "code" => code.clone())
                    .increment(1);
            }
            EventKind::ChildStarted { step, .. } | EventKind::ChildCalledBack { step, .. } => {
                let what = match &event.kind {
                    EventKind::ChildStarted { .. } => "started",
                    _ => "called_back",
                };
                counter!("buttress_saga_children_total", "saga" => saga, "step" => step.clone(),
                    "what" => what)
                .increment(1);
            }
            EventKind::Claimed { lapsed } => {
                let lapsed = if *lapsed { "true" } else { "false" };
                counter!("buttress_saga_claims_total", "saga" => saga, "lapsed" => lapsed)
                    .increment(1);
            }
            EventKind::Lost => counter!("buttress_saga_lost_total", "saga" => saga).increment(1),
            EventKind::Illegal => {}
        }
    }
}
