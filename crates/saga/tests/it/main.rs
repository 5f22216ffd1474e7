//! What users of the crate see.

mod bank;
mod calls;
mod conformance;
mod harness;
mod killed;
mod model;
mod shaky;
mod stand;
mod world;
