#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cell;
mod concurrency;
mod decision;
mod delay;
mod error;
mod event;
#[cfg(feature = "http")]
pub mod http;
mod keyed;
mod limiter;
mod machine;
#[cfg(feature = "metrics")]
mod metrics;
mod policy;
mod queue;
mod shared;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod told;
#[cfg(feature = "tower")]
pub mod tower;

#[cfg(feature = "metrics")]
pub use self::metrics::MetricsObserver;
pub use self::{
    concurrency::{
        AdaptiveLimit, Aimd, ConcurrencyLimiter, ConcurrencyLimiterBuilder, ConcurrencyPermit,
        Gradient2, Vegas,
    },
    decision::Decision,
    delay::{ProgressiveDelay, ProgressiveDelayBuilder},
    error::{PolicyError, SharedError},
    event::{Event, EventKind},
    keyed::{KeyedRateLimiter, KeyedRateLimiterBuilder},
    limiter::{RateLimiter, RateLimiterBuilder, Reservation},
    policy::{Algorithm, Bandwidth, Carry, Quota},
    shared::{Pruner, SharedRateLimiter, SharedRateLimiterBuilder, WhenDown},
};
