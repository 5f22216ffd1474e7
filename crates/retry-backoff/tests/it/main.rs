//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod budgets;
mod calls;
mod cancel;
mod distribution;
mod extremes;
mod hedging;
mod hints;
mod layer;
mod limits;
mod over_http;
mod policies;
mod traced;
mod vectors;
mod waits;
