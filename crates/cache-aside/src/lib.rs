#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod batcher;
mod behind;
pub mod bus;
mod cache;
pub mod codec;
mod error;
mod event;
mod fetch;
mod flight;
#[cfg(feature = "http")]
pub mod http;
mod key;
mod lease;
mod level;
mod load;
mod machine;
#[cfg(feature = "metrics")]
mod metrics;
mod policy;
mod second;
mod served;
pub mod store;
mod tag;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "metrics")]
pub use self::metrics::MetricsObserver;
pub use self::{
    batcher::{BatchError, BatchPolicy, Batcher},
    behind::{WhenFull, Write, WriteBehind, WriteBehindError, WriteBehindPolicy, Written},
    cache::{Cache, CacheBuilder},
    error::{CacheError, PolicyError},
    event::{Event, EventKind, Kept, LoadFailure},
    key::composite_key,
    load::{LoadContext, Loaded},
    policy::{CachePolicy, CachePolicyBuilder, EarlyRefresh},
    second::{LeasePolicy, SecondLevel},
    served::{CacheOutcome, Served},
};
