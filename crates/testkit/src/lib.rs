//! Private servers, faults and checkers for the tests of the Buttress crates. Not published.
//!
//! | module | what it gives |
//! | --- | --- |
//! | [`postgres`], [`mysql`] | a server of one's own, one for the whole test binary, a fresh database a test |
//! | `proxy` (feature) | a TCP proxy before a server: it refuses, cuts, delays, holds back, slows |
//! | [`nats`] | a server of one's own with JetStream, one for the whole test binary, a fresh name a test |
//! | [`rabbitmq`] | a server of one's own, one for the whole test binary, fresh names a test |
//! | [`redis`] | a server of one's own, one for the whole test binary, fresh keys a test |
//! | [`supervisor`] | any server program in a directory of its own; both are gone when the test is, `kill -9` included |
//! | [`cancel_sweep`](mod@cancel_sweep) | a future dropped at every point at which it waits, and a check after each |
//! | `clean_pool` (with a driver) | whether a connection of a pool would lose the next borrower's write |
//! | [`child`] | a part of a test in a process of its own, killed or stopped where the test wants |
//! | [`seed`] | chance that can be repeated |
//! | [`eventually`](mod@eventually) | waiting for an event that nobody announces |
//! | [`faketime`] | another wall clock for one process |
//! | [`fault`] | faults and crashes at chosen operations of a store, and sweeps over all of them |
//! | [`linearizability`] | whether what several clients saw could have come from one object |
//! | [`programs`] | where a server's programs are installed |
//! | `planted` (feature `planted-bugs`) | objects with bugs, on which the checkers must fail |
//! | [`left_out`] | what a test run says on its last line that it did not test |
//! | [`tally`] | what a torture test did, for the report |
//! | [`tier`] | how much a test does: little in every run, much in the torture run |
//! | [`afterwards`] | a thing that is done once this process is gone, however it went |
//!
//! Without features it pulls no driver. Features `postgres`, `mysql` and `sqlite` add
//! what needs one, `proxy` the proxy, `planted-bugs` the planted bugs.

#![allow(
    clippy::disallowed_methods,
    reason = "servers start in real time, so waiting for them is measured in it"
)]

mod account;
pub mod afterwards;
pub mod cancel_sweep;
pub mod child;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub mod clean_pool;
pub mod eventually;
pub mod faketime;
pub mod fault;
pub mod left_out;
pub mod linearizability;
pub mod mysql;
pub mod nats;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod postgres;
pub mod programs;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod rabbitmq;
pub mod redis;
pub mod seed;
mod shared;
mod start_error;
pub mod supervisor;
pub mod tally;
pub mod tier;

pub use self::{
    cancel_sweep::cancel_sweep, eventually::eventually, fault::fault_sweep, tier::short_or_long,
};
