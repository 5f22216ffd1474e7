#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod call_error;
mod chain;
#[cfg(any(feature = "http", feature = "reqwest", feature = "tonic"))]
pub mod classify;
pub mod clock;
mod fault;
mod observer;
mod registry;
mod retry_after;
mod verdict;

pub use self::{
    call_error::{Boxed, CallError, Rejection, RejectionKind, TimedOut},
    chain::Chain,
    clock::{Clock, Moment},
    fault::{Fault, PublicFault},
    observer::{Observer, Observers},
    registry::{Registered, Registry},
    retry_after::RetryAfter,
    verdict::{ByResult, Class, Classify, Outcome, Verdict},
};
