//! What a user of the crate can count on.

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
