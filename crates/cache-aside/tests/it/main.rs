//! What a user of the crate can count on.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod batcher;
mod batches;
mod behind;
mod bus;
mod cancelled;
mod codec;
mod dropped;
mod fences;
mod fleet;
mod flights;
mod freshness;
mod limits;
mod metrics;
mod one_load;
mod outage;
mod planted;
mod refill;
mod sealed;
mod stale_reads;
mod stand;
mod status;
mod stores;
mod told;
