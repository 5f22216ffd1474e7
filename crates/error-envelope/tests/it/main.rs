//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod bounds;
mod canary;
mod catalogue;
mod debug;
mod derive;
mod derive_quiet;
mod envelope;
mod extractors;
mod failures;
mod garde;
mod layer;
mod layer_twice;
mod log;
mod over_tcp;
mod render;
mod rpc;
mod stack;
mod vectors;
