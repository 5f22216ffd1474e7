//! The same of topics in a ring.

use std::time::Duration;

use buttress_testkit::{fault::Fault, short_or_long};

use super::{Stage, sweep::sweep, told};
use crate::OutboxStore;

/// What every story does often.
const OFTEN: [&str; 6] = [
    "append",
    "claim",
    "positions",
    "ring_window",
    "settle",
    "take",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_operation_may_fail_in_a_ring() {
    let Some(database) = buttress_testkit::postgres::fresh_database().await else {
        return;
    };
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(32);
    let pool = pool.connect(database.url()).await.unwrap();
    let store = OutboxStore::postgres(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let stage = Stage {
        pool,
        store,
        deadline: Duration::from_secs(2),
        ring: true,
    };
    let faults = short_or_long(&[Fault::DoneThenError][..], &Fault::ALL[..]);
    let tell = async |injection| told(&stage, injection).await;
    sweep("a ring", faults, &OFTEN, tell).await;
}
