//! What users of the crate see.

mod conformance;
mod stand;
