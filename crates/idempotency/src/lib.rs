#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod begin;
mod error;
mod event;
mod fingerprint;
mod guard;
mod idempotency;
mod key;
mod machine;
mod policy;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
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
