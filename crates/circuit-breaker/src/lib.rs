#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod blocking;
mod breaker;
mod call;
mod cell;
mod chance;
mod error;
mod event;
mod isolation;
mod machine;
mod permit;
mod policy;
mod rate;
mod snapshot;
mod state;
mod window;

pub use self::{
    breaker::{CircuitBreaker, CircuitBreakerBuilder},
    call::Call,
    error::PolicyError,
    event::{Event, EventKind},
    isolation::Isolation,
    machine::Counts,
    permit::{OwnedPermit, Permit},
    policy::{Abandoned, OpenTime, Opening, Policy, PolicyBuilder},
    rate::Rate,
    snapshot::Snapshot,
    state::{Cause, State},
};
