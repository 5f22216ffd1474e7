#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cell;
mod concurrency;
mod decision;
mod delay;
mod error;
mod event;
mod keyed;
mod limiter;
mod machine;
mod policy;
mod queue;
mod told;

pub use self::{
    concurrency::{ConcurrencyLimiter, ConcurrencyLimiterBuilder, ConcurrencyPermit, Gradient2},
    decision::Decision,
    delay::{ProgressiveDelay, ProgressiveDelayBuilder},
    error::PolicyError,
    event::{Event, EventKind},
    keyed::{KeyedRateLimiter, KeyedRateLimiterBuilder},
    limiter::{RateLimiter, RateLimiterBuilder, Reservation},
    policy::{Algorithm, Bandwidth, Carry, Quota},
};
