//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod against_model;
mod calls;
mod cancelled;
mod config;
mod keyed;
mod layer;
mod many_threads;
mod model;
mod over_tcp;
mod simulated_day;
mod stand;
mod states;
mod told;
mod vectors;
mod vectors_states;
mod vectors_windows;
mod written;
