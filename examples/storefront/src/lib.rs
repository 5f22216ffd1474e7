//! The storefront: a small shop behind HTTP, and the place where the Buttress crates meet.
//!
//! Layered: `http` knows requests, `service` knows what the shop does, `repository` knows SQL,
//! `clients` know how to call the services behind it, and `upstreams` are those services.
//! It uses the crates through their public API alone, as any other service would.

#![allow(
    clippy::duplicate_mod,
    reason = "the queries are written once and compiled for each database"
)]

mod cli;
mod clients;
mod demo;
mod event;
mod figures;
mod http;
mod nats;
mod order;
mod product;
mod redis;
mod repository;
mod service;
mod storefront;
mod telemetry;
mod upstreams;

pub use self::cli::run;

/// The examples of the front page, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
