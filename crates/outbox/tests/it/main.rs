//! What users of the crate see.

mod webhook_signatures;
mod webhook_vectors;
