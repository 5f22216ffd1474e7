//! Every store, judged by the suite.

use buttress_idempotency::{store::MemoryStore, store::RedisStore, testing::conforms};
use buttress_store::RedisConnection;
use buttress_testkit as testkit;

use crate::stand::{OnMySql, OnPostgres, OnSqlite, on_redis};

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_conforms() {
    conforms(&MemoryStore::new()).await;
}

#[tokio::test]
async fn the_store_on_sqlite_conforms() {
    let on = OnSqlite::start().await;
    conforms(&on.store).await;
    on.store.migrations().check(on.writer.pool()).await.unwrap();
}

#[tokio::test]
async fn the_store_on_postgres_conforms() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    conforms(&on.store).await;
    on.store.migrations().check(&on.pool).await.unwrap();
    on.close().await;
}

#[tokio::test]
async fn the_store_on_mysql_conforms() {
    let Some(on) = OnMySql::start().await else {
        return;
    };
    conforms(&on.store).await;
    on.store.migrations().check(&on.pool).await.unwrap();
    on.close().await;
}

#[tokio::test]
async fn the_store_on_redis_conforms() {
    let Some(prefix) = testkit::redis::fresh_prefix() else {
        return;
    };
    conforms(&on_redis(prefix.url(), prefix.as_str()).await).await;
}

#[tokio::test]
async fn the_store_on_a_redis_cluster_conforms() {
    let cluster = match testkit::redis::Cluster::start() {
        Ok(cluster) => cluster,
        Err(testkit::redis::StartError::NotFound(_)) => return, // the other tests say so
        Err(error) => panic!("{error}"),
    };
    let client = redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
    let connection = client.get_async_connection().await.unwrap();
    conforms(&RedisStore::new(RedisConnection::new(connection))).await;
}
