//! The suite, on every store.

use buttress_outbox::testing::conformance;

use crate::base;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_passes_the_suite() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    conformance(&base.pool, &base.store).await;
}

/// The topics whose order and delivery it is about.
const RING: [&str; 13] = [
    "conformance.ring",
    "conformance.crash",
    "conformance.two",
    "conformance.commit",
    "conformance.order",
    "conformance.late",
    "conformance.poison",
    "conformance.dead",
    "conformance.skip",
    "conformance.requeue",
    "conformance.down",
    "conformance.delay",
    "conformance.kept",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_passes_the_suite_in_a_ring_that_goes_round_and_round() {
    let Some(base) = base::on_ring(&RING, 40).await else {
        return;
    };
    conformance(&base.pool, &base.store).await;
    let moved = "SELECT last_value FROM buttress_outbox_id_seq";
    let given: i64 = sqlx::query_scalar(moved)
        .fetch_one(&base.pool)
        .await
        .unwrap();
    assert!(given > 400, "{given}: it went round more than twice");
    let streamed = base::rows(&base.pool, "buttress_outbox_stream").await;
    assert!(streamed > 300, "{streamed} were appended there");
    // And all that is settled goes.
    let outbox = buttress_outbox::Outbox::new(base.store.clone());
    assert_eq!(outbox.truncate().await.unwrap(), 2);
    let left = base::rows(&base.pool, "buttress_outbox_stream").await;
    assert!(left < streamed, "{left} of {streamed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_passes_the_suite() {
    let Some(base) = base::on_mariadb().await else {
        return;
    };
    conformance(&base.pool, &base.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_passes_the_suite() {
    let base = base::on_sqlite().await.unwrap();
    conformance(&base.pool, &base.store).await;
}
