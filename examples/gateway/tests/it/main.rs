//! The gateway over real sockets, before upstreams that fail as they are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "real sockets live in real time")]

mod configuration;
mod forwarding;
mod grpc;
mod house;
mod resilience;
