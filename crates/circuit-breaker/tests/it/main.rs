//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod against_model;
mod calls;
mod cancelled;
mod classified;
mod config;
mod fleet;
mod fleet_faults;
mod fleet_members;
mod fleet_redis;
mod keyed;
mod late;
mod layer;
mod many_threads;
mod metrics;
mod model;
mod oracle;
mod over_tcp;
mod ramp;
mod simulated_day;
mod soak;
mod stand;
mod states;
mod told;
mod vectors;
mod vectors_states;
mod vectors_windows;
mod waits;
mod wall_clock;
mod written;
