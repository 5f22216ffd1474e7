//! A migrated store on a fresh database of each kind.

use std::{error::Error, sync::Arc};

use buttress_saga::store::{MySqlStore, PostgresStore, SqliteStore, Store};
use buttress_testkit::{mysql, postgres};
use sqlx::{MySqlPool, PgPool, SqlitePool};

pub(crate) type Trouble = Box<dyn Error>;

/// A store, its pool and what it stands on.
pub(crate) struct Stand<P, D> {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pool: P,
    pub(crate) database: D,
}

pub(crate) async fn postgres() -> Result<Option<Stand<PgPool, postgres::Database>>, Trouble> {
    let Some(database) = postgres::fresh_database().await else {
        return Ok(None);
    };
    let pool = PgPool::connect(database.url()).await?;
    let store = PostgresStore::new(pool.clone())?;
    store.migrate().await?;
    store.check().await?;
    Ok(Some(Stand {
        store: Arc::new(store),
        pool,
        database,
    }))
}

impl Stand<PgPool, postgres::Database> {
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.pool.close().await;
        self.database.close().await
    }
}

pub(crate) async fn mysql() -> Result<Option<Stand<MySqlPool, mysql::Database>>, Trouble> {
    let Some(database) = mysql::fresh_database().await else {
        return Ok(None);
    };
    let pool = MySqlPool::connect(database.url()).await?;
    let store = MySqlStore::new(pool.clone())?;
    store.migrate().await?;
    store.check().await?;
    Ok(Some(Stand {
        store: Arc::new(store),
        pool,
        database,
    }))
}

impl Stand<MySqlPool, mysql::Database> {
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.pool.close().await;
        self.database.close().await
    }
}

pub(crate) async fn sqlite() -> Result<Stand<SqlitePool, tempfile::TempDir>, Trouble> {
    let database = tempfile::tempdir()?;
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let options = buttress_store::sqlite::options(database.path().join("sagas.db"));
    let pool = SqlitePool::connect_lazy_with(options);
    let store = SqliteStore::new(pool.clone())?;
    store.migrate().await?;
    store.check().await?;
    Ok(Stand {
        store: Arc::new(store),
        pool,
        database,
    })
}
