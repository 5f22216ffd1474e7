//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod endpoint;
mod stand;
mod webhook_addresses;
mod webhook_endpoints;
mod webhook_layer;
mod webhook_publisher;
mod webhook_signatures;
mod webhook_tls;
mod webhook_vectors;
