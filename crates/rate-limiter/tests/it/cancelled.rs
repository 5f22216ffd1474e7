//! Decisions that are dropped at every point at which they wait: done or not done, never half, and no
//! connection is left in the middle of something.

use std::sync::Arc;

use buttress_rate_limiter::{
    Bandwidth, Quota, SharedRateLimiter, WhenDown,
    store::{MySqlStore, PostgresStore, Store},
};
use buttress_store::Gate;
use buttress_testkit::{
    cancel_sweep::CancelSweep, clean_pool, mysql, postgres, proxy::Proxy, redis,
};

use crate::stores::{redis_connection, sqlite_store};

const BURST: u64 = 100_000;

/// Two bandwidths, so that a decision is a transaction where there are any; their counts never part.
fn limiter(store: Arc<dyn Store>) -> SharedRateLimiter {
    let quota = Quota::new(Bandwidth::per_day(BURST)).unwrap();
    let quota = quota.and(Bandwidth::per_day(BURST).fixed_window()).unwrap();
    SharedRateLimiter::builder("dropped", quota, store)
        .when_down(WhenDown::Closed)
        .gate(Gate::sql())
        .build()
        .unwrap()
}

async fn left(limiter: &SharedRateLimiter) -> u64 {
    limiter.peek_n("a", 0).await.unwrap().remaining()
}

/// Each run takes ten or nothing, and the next one decides. At how many points it was dropped.
async fn swept(store: Arc<dyn Store>) -> u32 {
    let limiter = limiter(store);
    let held = std::cell::Cell::new(BURST);
    // Where the answer comes from a thread of this process, how many points there are is a race.
    let sweep = CancelSweep::default().confirmed(5);
    let swept = sweep
        .run(
            async || limiter.check_n("a", 10).await.unwrap().is_allowed(),
            async |point| {
                // It waits for whatever is still under way on the key.
                assert!(limiter.check_n("a", 1).await.unwrap().is_allowed());
                let now = left(&limiter).await;
                let taken = held.replace(now).saturating_sub(now + 1);
                // A little flows in meanwhile: about one permit a second.
                assert!(taken <= 10, "{point:?}: {taken} were taken");
            },
        )
        .await;
    swept.points
}

#[tokio::test]
async fn a_decision_on_redis_is_done_or_not_done() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(prefix) = redis::fresh_prefix() else {
        return;
    };
    let (_proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let connection = redis_connection(&url).await;
    let prefix = prefix.as_str().trim_end_matches(':').to_owned();
    let store = buttress_rate_limiter::store::RedisStore::with_prefix(connection, &prefix);
    assert!(swept(Arc::new(store.unwrap())).await > 0);
}

#[tokio::test]
async fn a_decision_on_postgres_is_done_or_not_done_and_the_pool_is_clean() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(database.url()).await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let store = PostgresStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    assert!(swept(Arc::new(store)).await > 0);
    clean_pool::probe(&pool).await.unwrap();
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_decision_on_mariadb_is_done_or_not_done_and_the_pool_is_clean() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(database.url()).await.unwrap();
    let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
    let store = MySqlStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    assert!(swept(Arc::new(store)).await > 0);
    clean_pool::probe(&pool).await.unwrap();
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_decision_on_sqlite_is_done_or_not_done() {
    let _tally = buttress_testkit::tally::suite("X1");
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite_store(&folder.path().join("limits.db")).await;
    let _points = swept(Arc::new(store)).await;
}
