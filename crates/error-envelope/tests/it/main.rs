//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod bounds;
mod canary;
mod catalogue;
mod causes;
mod client;
mod client_hostile;
mod client_read;
mod client_vectors;
mod debug;
mod derive;
mod derive_quiet;
mod envelope;
mod extractors;
mod failures;
mod garde;
mod headers;
mod layer;
mod layer_twice;
mod log;
mod negotiation;
mod over_tcp;
mod page;
mod redacted;
mod render;
mod rpc;
mod stack;
mod validator;
mod vectors;
