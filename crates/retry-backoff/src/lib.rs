#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempt;
mod attempts;
mod backoff;
mod blocking;
mod budget;
pub mod call;
mod deadline;
mod dice;
mod error;
mod event;
#[cfg(feature = "fleet")]
mod fleet;
mod future;
pub mod hedge;
mod hint;
mod machine;
#[cfg(feature = "metrics")]
mod metrics;
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

#[cfg(feature = "fleet")]
pub use self::fleet::{BudgetFleet, BudgetFleetBuilder, FleetEvent, FleetEventKind};
pub use buttress_core::TimedOut;

#[cfg(feature = "metrics")]
pub use self::metrics::MetricsObserver;
pub use self::{
    attempt::Attempt,
    attempts::Attempts,
    backoff::{Backoff, Delays, Jitter},
    blocking::BlockingRetry,
    budget::{Budget, BudgetRule},
    call::RetryExt,
    deadline::Deadline,
    dice::Dice,
    error::{Failure, RetryError, Stopped},
    event::{Event, TraceEvents},
    future::Retrying,
    hint::RetryAfterRule,
    policy::{PolicyError, RetryPolicy, RetryPolicyBuilder},
    retry::Retry,
};
