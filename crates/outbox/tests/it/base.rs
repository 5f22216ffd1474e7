//! A fresh database of each kind, with the tables on it.

use std::any::Any;

use buttress_outbox::OutboxStore;
use buttress_store::sqlite::{Writer, options};
use buttress_testkit::{mysql, postgres};
use sqlx::{
    Database, MySql, Pool, Postgres, Sqlite, mysql::MySqlPoolOptions, postgres::PgPoolOptions,
    sqlite::SqlitePoolOptions,
};

/// A database, and the tables on it.
pub(crate) struct Base<DB: Database> {
    pub(crate) pool: Pool<DB>,
    pub(crate) store: OutboxStore,
    /// How a child process reaches it.
    pub(crate) url: String,
    _keep: Box<dyn Any + Send>,
}

pub(crate) async fn on_postgres() -> Option<Base<Postgres>> {
    let database = postgres::fresh_database().await?;
    let url = database.url().to_owned();
    let (pool, store) = postgres_at(&url).await;
    store.migrate().await.unwrap();
    let _keep = Box::new(database);
    Some(Base {
        pool,
        store,
        url,
        _keep,
    })
}

/// With these topics in a ring whose pieces are so many ids long, of the default 250,000.
pub(crate) async fn on_ring(topics: &[&str], piece: u32) -> Option<Base<Postgres>> {
    const STEP: &str = include_str!("../../migrations/postgres/0003_ring.sql");
    let mut base = on_postgres().await?;
    let (tables, _) = STEP.split_once("-- A lane that may").unwrap();
    let tables = tables
        .replace("{schema}", "")
        .replace("{prefix}", "buttress_");
    let sql = format!(
        "DROP TABLE buttress_outbox_stream; DROP TABLE buttress_outbox_mark; {}",
        tables.replace("250000", &piece.to_string())
    );
    let sql: &'static str = sql.leak();
    sqlx::raw_sql(sql).execute(&base.pool).await.unwrap();
    base.store = base.store.with_ring(topics).unwrap();
    Some(base)
}

/// As many rows as these tables have.
pub(crate) async fn rows(pool: &Pool<Postgres>, table: &str) -> i64 {
    let sql: &'static str = format!("SELECT count(*) FROM {table}").leak();
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

pub(crate) async fn on_mariadb() -> Option<Base<MySql>> {
    let database = mysql::fresh_database().await?;
    let url = database.url().to_owned();
    let (pool, store) = mariadb_at(&url).await;
    store.migrate().await.unwrap();
    let _keep = Box::new(database);
    Some(Base {
        pool,
        store,
        url,
        _keep,
    })
}

#[allow(clippy::unused_async, reason = "as the others")]
pub(crate) async fn on_sqlite() -> Option<Base<Sqlite>> {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("test.db").display().to_string();
    let (pool, store) = sqlite_at(&url).await;
    store.migrate().await.unwrap();
    let _keep = Box::new(folder);
    Some(Base {
        pool,
        store,
        url,
        _keep,
    })
}

pub(crate) async fn postgres_at(url: &str) -> (Pool<Postgres>, OutboxStore) {
    let options = PgPoolOptions::new().max_connections(8);
    let pool = options.connect(url).await.unwrap();
    let store = OutboxStore::postgres(pool.clone()).unwrap();
    (pool, store)
}

pub(crate) async fn ring_at(url: &str) -> (Pool<Postgres>, OutboxStore) {
    let (pool, store) = postgres_at(url).await;
    (pool, store.with_ring([crate::lab::TOPIC]).unwrap())
}

pub(crate) async fn mariadb_at(url: &str) -> (Pool<MySql>, OutboxStore) {
    let options = MySqlPoolOptions::new().max_connections(8);
    let pool = options.connect(url).await.unwrap();
    let store = OutboxStore::mysql(pool.clone()).unwrap();
    (pool, store)
}

#[allow(clippy::unused_async, reason = "as the others")]
pub(crate) async fn sqlite_at(file: &str) -> (Pool<Sqlite>, OutboxStore) {
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let pool = SqlitePoolOptions::new().max_connections(4);
    let pool = pool.connect_lazy_with(options(file));
    let store = OutboxStore::sqlite(Writer::new(pool.clone())).unwrap();
    (pool, store)
}
