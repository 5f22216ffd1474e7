//! A read model that is kept by events, and built anew from them. The README says how to run it.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on fails")
)]

pub mod cli;
pub mod commands;
pub mod database;
mod demo;
mod event;
mod projection;
pub mod projector;
pub mod queries;
pub mod rebuild;
pub mod traffic;
