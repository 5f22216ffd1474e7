#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempt;
mod attempts;
mod backoff;
mod blocking;
mod budget;
pub mod call;
mod dice;
mod error;
mod event;
mod future;
pub mod hedge;
mod hint;
#[cfg(feature = "http")]
pub mod http;
mod machine;
mod policy;
mod progress;
#[cfg(feature = "reqwest")]
pub mod reqwest;
mod retry;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(feature = "tower")]
pub mod tower;

pub use self::{
    attempt::Attempt,
    attempts::Attempts,
    backoff::{Backoff, Delays, Jitter},
    budget::{Budget, BudgetRule},
    call::RetryExt,
    dice::Dice,
    error::{Failure, RetryError, Stopped, TimedOut},
    event::{Event, TraceEvents},
    future::Retrying,
    hint::RetryAfterRule,
    policy::{PolicyError, RetryPolicy, RetryPolicyBuilder},
    retry::Retry,
};
