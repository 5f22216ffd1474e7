#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
mod axum;
mod begin;
mod error;
mod event;
mod fingerprint;
mod guard;
#[cfg(feature = "http")]
pub mod http;
mod idempotency;
mod key;
mod machine;
mod policy;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;
mod tracker;

pub use self::{
    begin::Begin,
    error::{CompleteError, IdempotencyError, PolicyError, Refusal},
    event::{Event, EventKind, TraceEvents},
    fingerprint::Fingerprint,
    guard::{Guard, TransactionGuard},
    idempotency::{Idempotency, IdempotencyBuilder},
    key::{Key, KeyError, Scope, ScopedKey},
    policy::{Abandoned, Policy, PolicyBuilder, WhenDown},
    tracker::{Drained, Tracked},
};
