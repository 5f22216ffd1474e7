//! What users of the crate see.

mod calls;
mod conformance;
mod model;
mod shaky;
mod stand;
mod world;
