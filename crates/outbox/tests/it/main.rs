//! What users of the crate see.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by a panic, prints its figures, and measures in real time"
)]

mod after;
mod backlog;
mod base;
mod bound;
mod broker;
mod brokers;
mod conformance;
mod crash;
mod hints;
mod isolation;
mod kafka;
mod lab;
mod late;
mod line;
mod nats;
mod planted;
mod rebalance;
mod restart;
mod retention;
mod ring;
mod trouble;
mod vectors;
mod webhook;
