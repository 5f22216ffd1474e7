//! How a saga looks from outside.

use std::time::SystemTime;

use buttress_store::Key;

use crate::{
    Entry, SagaId, State, StepState,
    definition::Definition,
    machine::Progress,
    store::{DefinitionKey, Record},
};

/// A saga, without its journal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// What it is called.
    pub id: SagaId,
    /// By which definition it runs.
    pub definition: DefinitionKey,
    /// Its business key.
    pub business_key: Option<Key>,
    /// Where it stands.
    pub state: State,
    /// Why it was turned back or parked: the code of the failure.
    pub reason: Option<String>,
    /// The saga whose child it is.
    pub parent: Option<SagaId>,
    /// When it was started, by the store's clock.
    pub created_at: SystemTime,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
}

/// A saga with all that happened to it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct History {
    /// The saga.
    pub saga: Summary,
    /// Why it was turned back, also when it was parked later.
    pub turned_back: Option<String>,
    /// Its steps, in their order.
    pub steps: Vec<StepView>,
    /// What happened, line by line, and when.
    pub lines: Vec<(SystemTime, Entry)>,
}

/// How one step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// How many attempts at it were begun.
    pub attempts: u32,
    /// How many attempts at its undo were begun.
    pub undo_attempts: u32,
    /// The code of its last failure.
    pub code: Option<String>,
    /// The child that it called last, if it is a saga itself.
    pub child: Option<SagaId>,
}

impl Summary {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            id: record.id,
            definition: record.definition.clone(),
            business_key: record.business_key.clone(),
            state: record.state,
            reason: record.reason.clone(),
            parent: record.parent,
            created_at: record.created_at.into(),
            ended_at: record.ended_at.map(Into::into),
        }
    }
}

impl History {
    pub(crate) fn of(definition: &Definition, record: Record, progress: &Progress) -> Self {
        let saga = Summary::of(&record);
        let steps = definition.steps.iter().zip(&progress.steps);
        let steps = steps.map(|(defined, it)| StepView {
            name: defined.name.to_string(),
            state: match it.state() {
                // Nobody will try it again, and nobody knows.
                StepState::Running if it.doubtful && progress.state != State::Running => {
                    StepState::Unknown
                }
                state => state,
            },
            attempts: it.attempts,
            undo_attempts: it.undo_attempts,
            code: it.code.clone(),
            child: it.child,
        });
        Self {
            saga,
            turned_back: progress.reason.clone(),
            steps: steps.collect(),
            lines: record
                .journal
                .into_iter()
                .map(|line| (line.at.into(), line.entry))
                .collect(),
        }
    }
}
