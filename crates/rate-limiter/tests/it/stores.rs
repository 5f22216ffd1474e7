//! Every store passes the suite, and the suite catches stores that do not do what they must.

use std::sync::Arc;

use async_trait::async_trait;
use buttress_rate_limiter::{
    store::{Answer, Ask, MemoryStore, MySqlStore, PostgresStore, RedisStore, SqliteStore, Store},
    testing::conformance,
};
use buttress_store::{Deadline, Key, RedisConnection, StoreError, sqlite};
use buttress_testkit::{mysql, postgres, redis};

pub(crate) async fn redis_connection(url: &str) -> RedisConnection {
    let client = ::redis::Client::open(url).unwrap();
    let config = ::redis::aio::ConnectionManagerConfig::new();
    let manager = ::redis::aio::ConnectionManager::new_with_config(client, config);
    RedisConnection::new(manager.await.unwrap())
}

pub(crate) async fn redis_store(prefix: &redis::Prefix) -> RedisStore {
    let connection = redis_connection(prefix.url()).await;
    let prefix = prefix.as_str().trim_end_matches(':');
    RedisStore::with_prefix(connection, prefix).unwrap()
}

pub(crate) async fn sqlite_store(file: &std::path::Path) -> SqliteStore {
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let options = sqlite::options(file).synchronous(sqlx::sqlite::SqliteSynchronous::Normal);
    let pool = sqlx::SqlitePool::connect_lazy_with(options);
    let store = SqliteStore::new(sqlite::Writer::new(pool)).unwrap();
    store.migrate().await.unwrap();
    store.check().await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    conformance(Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_conforms() {
    let Some(prefix) = redis::fresh_prefix() else {
        return;
    };
    conformance(Arc::new(redis_store(&prefix).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cluster_conforms() {
    let Ok(cluster) = redis::Cluster::start() else {
        return; // the other tests on Redis say so
    };
    let client = ::redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
    let connection = client.get_async_connection().await.unwrap();
    let store = RedisStore::new(RedisConnection::new(connection));
    conformance(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
    let store = PostgresStore::new(pool.clone()).unwrap();
    assert!(store.check().await.is_err(), "it says what is missing");
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    store.check().await.unwrap();
    conformance(Arc::new(store)).await;
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_conforms() {
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let pool = sqlx::MySqlPool::connect(database.url()).await.unwrap();
    let store = MySqlStore::new(pool.clone()).unwrap();
    assert!(store.check().await.is_err(), "it says what is missing");
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    store.check().await.unwrap();
    conformance(Arc::new(store)).await;
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite_store(&folder.path().join("limits.db")).await;
    conformance(Arc::new(store)).await;
}

/// Planted bugs: a store that forgets a refused key, one that folds keys, one that forgives debts.
#[derive(Clone, Copy, Debug)]
enum Bug {
    ForgetsRefused,
    FoldsKeys,
    ForgivesDebt,
}

#[derive(Debug)]
struct Broken {
    bug: Bug,
    inner: MemoryStore,
}

#[async_trait]
impl Store for Broken {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        match self.bug {
            Bug::ForgetsRefused => {
                let answer = self.inner.decide(key, ask, deadline).await?;
                if key.ends_with(b"many") && !answer.decision.is_allowed() {
                    self.inner.forget(key, deadline).await?;
                }
                Ok(answer)
            }
            Bug::FoldsKeys => {
                let folded = Key::new(key.to_ascii_lowercase()).unwrap();
                self.inner.decide(&folded, ask, deadline).await
            }
            Bug::ForgivesDebt => {
                let answer = self.inner.decide(key, ask, deadline).await?;
                if answer.granted > answer.decision.limit() {
                    self.inner.forget(key, deadline).await?;
                }
                Ok(answer)
            }
        }
    }

    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError> {
        self.inner.forget(key, deadline).await
    }

    async fn prune(&self, most: u32, deadline: Deadline) -> Result<u64, StoreError> {
        self.inner.prune(most, deadline).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_catches_each_planted_bug() {
    let tally = buttress_testkit::tally::suite("RL3");
    for bug in [Bug::ForgetsRefused, Bug::FoldsKeys, Bug::ForgivesDebt] {
        let inner = MemoryStore::new();
        let judged = tokio::spawn(conformance(Arc::new(Broken { bug, inner })));
        assert!(judged.await.is_err(), "{bug:?} passed");
    }
    tally.caught(3);
}
