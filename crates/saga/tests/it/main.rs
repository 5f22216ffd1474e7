//! What users of the crate see.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod bank;
mod calls;
mod children;
mod conformance;
mod forks;
mod forks_completed;
mod gathered;
mod graphs;
mod harness;
mod kept;
mod killed;
mod lapses;
mod metrics;
mod model;
mod postponed;
mod pruned;
mod runners;
mod shaky;
mod signals;
mod signals_stored;
mod sleeps;
mod stand;
mod stores;
mod vectors;
mod world;
