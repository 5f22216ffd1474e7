//! Webhooks: sent, received, and led astray.

#![allow(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod addresses;
mod endpoint;
mod endpoints;
mod layer;
mod publisher;
mod signatures;
pub(crate) mod stand;
mod through;
mod tls;
mod vectors;
