#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod blocking;
mod breaker;
mod call;
mod cell;
mod chance;
mod error;
mod event;
#[cfg(feature = "fleet")]
mod fleet;
mod isolation;
mod keyed;
mod lane;
mod machine;
#[cfg(feature = "metrics")]
mod metrics;
mod permit;
mod policy;
mod rate;
#[cfg(feature = "redis")]
pub mod redis;
mod snapshot;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub mod sqlx;
mod state;
mod throttle;
#[cfg(feature = "tower")]
pub mod tower;
mod window;

#[cfg(feature = "http")]
pub use buttress_core::classify::http;
#[cfg(feature = "reqwest")]
pub use buttress_core::classify::reqwest;
#[cfg(feature = "tonic")]
pub use buttress_core::classify::tonic;

#[cfg(feature = "fleet")]
pub use self::fleet::{
    BreakerFleet, BreakerFleetBuilder, FleetEvent, FleetEventKind, FleetPolicy, FleetView,
};
#[cfg(feature = "metrics")]
pub use self::metrics::MetricsObserver;
pub use self::{
    breaker::{CircuitBreaker, CircuitBreakerBuilder},
    call::Call,
    error::PolicyError,
    event::{Event, EventKind},
    isolation::Isolation,
    keyed::CircuitBreakers,
    machine::Counts,
    permit::{OwnedPermit, Permit},
    policy::{Abandoned, OpenTime, Opening, Policy, PolicyBuilder},
    rate::Rate,
    snapshot::Snapshot,
    state::{Cause, State},
    throttle::AdaptiveThrottle,
};
