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
mod machine;
mod policy;
mod progress;
#[cfg(feature = "redis")]
pub mod redis;
mod retry;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub mod sqlx;
#[cfg(feature = "tower")]
pub mod tower;

#[cfg(feature = "http")]
pub use buttress_core::classify::http;
#[cfg(feature = "reqwest")]
pub use buttress_core::classify::reqwest;
#[cfg(feature = "tonic")]
pub use buttress_core::classify::tonic;

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
