//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod against_model;
mod blocking;
mod budgets;
mod calls;
mod cancel;
mod counted;
mod deadlines;
mod distribution;
mod extremes;
mod fleet;
mod fleet_board;
mod hedged_layer;
mod hedging;
mod hints;
mod layer;
mod limits;
mod over_http;
mod policies;
mod real_servers;
mod traced;
mod vectors;
mod waits;
