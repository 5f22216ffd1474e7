//! What users of the crate see.

mod base;
mod conformance;
mod webhook;
