//! The test kit, tested: on the servers that are installed; what needs others is left out by its own means.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are tests: a panic is how they fail"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the ends of processes that are not our children are waited for by looking again"
)]

mod child;
#[cfg(all(
    feature = "mysql",
    feature = "postgres",
    feature = "proxy",
    feature = "sqlite"
))]
mod clean_pool;
#[cfg(all(feature = "mysql", feature = "postgres", feature = "proxy"))]
mod commit_cut;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod fresh_database;
mod kind;
mod left_out;
mod nats;
#[cfg(feature = "planted-bugs")]
mod planted;
#[cfg(feature = "proxy")]
mod proxy;
mod rabbitmq;
mod role;
mod server;
mod shared_server;
mod supervisor;
#[cfg(all(feature = "mysql", feature = "postgres"))]
mod survival;
