//! What a user of the crate can count on.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod batches;
mod cancelled;
mod fences;
mod flights;
mod freshness;
mod limits;
mod metrics;
mod refill;
mod stand;
mod status;
mod told;
