//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod board;
mod class;
mod connection;
mod cut;
mod guarded;
mod migrate;
mod migrate_beside;
mod migrate_race;
mod names;
mod proof;
mod redis;
mod redis_cluster;
mod secrets;
mod sqlite;
