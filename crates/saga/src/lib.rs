#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod context;
mod definition;
mod drive;
mod error;
mod event;
mod graph;
mod id;
mod machine;
#[cfg(feature = "metrics")]
mod metrics;
mod policy;
mod pruner;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod rows;
mod run;
mod runner;
mod sagas;
mod step;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod view;

#[cfg(feature = "metrics")]
pub use self::metrics::MetricsObserver;
pub use self::{
    context::{CompleteError, Context, OutputError, UndoContext},
    definition::{ChildContext, DefinitionError, Fork, Output, Saga, SagaBuilder, Waited},
    error::SagaError,
    event::{Event, EventKind, TraceEvents},
    id::{NoSagaId, SagaId},
    machine::{By, Entry, FailureKind, IllegalEntry, State, StepState},
    policy::{PolicyError, RunnerPolicy, StepPolicy},
    pruner::Pruner,
    runner::{Runner, RunnerBuilder},
    sagas::{Sagas, StartOptions},
    step::{Effect, Step, StepError},
    view::{History, StepView, Summary},
};
