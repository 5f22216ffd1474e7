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
