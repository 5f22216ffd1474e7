//! Private servers for the tests of the Buttress crates. Not published.
//!
//! | module | what it gives |
//! | --- | --- |
//! | [`postgres`] | a Postgres server of one's own, one for the whole test binary, a fresh database a test |
//! | [`supervisor`] | any server program in a directory of its own; both are gone when the test is, `kill -9` included |
//! | [`programs`] | where a server's programs are installed |
//! | [`left_out`] | what a test run says on its last line that it did not test |
//! | [`afterwards`] | a thing that is done once this process is gone, however it went |
//!
//! Without features it pulls neither a driver nor a runtime. Feature `postgres` adds
//! `postgres::fresh_database`.

#![allow(
    clippy::disallowed_methods,
    reason = "servers start in real time, so waiting for them is measured in it"
)]

mod account;
pub mod afterwards;
pub mod left_out;
pub mod postgres;
pub mod programs;
pub mod supervisor;
