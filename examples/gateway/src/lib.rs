//! A reverse proxy in front of flaky upstreams. The README says what it does and how to run it.

mod answer;
pub mod config;
mod failure;
mod gateway;
mod hops;
mod stack;
mod upstreams;

pub use self::gateway::router;
