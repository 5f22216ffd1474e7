#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod bus;
mod cache;
pub mod codec;
mod error;
mod event;
mod fetch;
mod flight;
mod key;
mod level;
mod load;
mod machine;
mod policy;
mod served;
pub mod store;
mod tag;
#[cfg(feature = "testing")]
pub mod testing;

pub use self::{
    cache::{Cache, CacheBuilder},
    error::{CacheError, PolicyError},
    event::{Event, EventKind, Kept, LoadFailure},
    key::composite_key,
    load::{LoadContext, Loaded},
    policy::{CachePolicy, CachePolicyBuilder, EarlyRefresh},
    served::{CacheOutcome, Served},
};
