#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
mod axum;
mod begin;
mod completer;
mod consumer;
mod error;
mod event;
mod fingerprint;
mod guard;
#[cfg(feature = "http")]
pub mod http;
mod idempotency;
mod key;
mod machine;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "phases")]
mod phase;
mod policy;
mod progress;
mod reaper;
mod run;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;
mod tracker;

#[cfg(feature = "metrics")]
pub use self::metrics::MetricsObserver;
#[cfg(feature = "phases")]
pub use self::phase::PhaseError;
pub use self::{
    begin::Begin,
    completer::{Completer, Driven, Kept, Orphan},
    consumer::Consumer,
    error::{CompleteError, IdempotencyError, PolicyError, Refusal},
    event::{Event, EventKind, NotKept, TraceEvents},
    fingerprint::Fingerprint,
    guard::{Guard, TransactionGuard},
    idempotency::{Idempotency, IdempotencyBuilder},
    key::{Key, KeyError, Scope, ScopedKey},
    policy::{Abandoned, Policy, PolicyBuilder, WhenDown},
    progress::PhaseChanged,
    reaper::Reaper,
    run::{Ran, RunError},
    tracker::{Drained, Tracked},
};
