//! What a user of the crate can count on.

mod batches;
mod bus;
mod cancelled;
mod codec;
mod fences;
mod dropped;
mod fleet;
mod flights;
mod freshness;
mod limits;
mod outage;
mod planted;
mod refill;
mod stale_reads;
mod stand;
mod status;
mod stores;
mod told;
