//! What a user of the crate can count on.

mod bus;
mod codec;
mod fleet;
mod flights;
mod outage;
mod stale_reads;
mod stand;
mod stores;
