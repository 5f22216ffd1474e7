//! What a user of the crate can count on.

mod fences;
mod flights;
mod freshness;
mod refill;
mod stand;
