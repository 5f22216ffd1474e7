//! What users of the crate see.

mod calls;
mod conformance;
mod stand;
mod world;
