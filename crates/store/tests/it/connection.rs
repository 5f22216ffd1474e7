//! The user's own transaction, passed to a store whose type is forgotten.

use std::sync::Arc;

use buttress_store::{
    AfterCommit, Deadline, Dialect, Guarded, Lent, SqlConnection, StoreError, StoreErrorKind,
    WrongDialect,
};
use buttress_testkit::postgres::fresh_database;
use sqlx::{Connection as _, PgPool, SqliteConnection};

#[async_trait::async_trait]
trait Store: Send + Sync {
    async fn append(&self, connection: Lent<'_>, note: &str) -> Result<(), StoreError>;
}

struct OnPostgres;

#[async_trait::async_trait]
impl Store for OnPostgres {
    async fn append(&self, connection: Lent<'_>, note: &str) -> Result<(), StoreError> {
        let connection = connection.postgres()?;
        let insert = sqlx::query("INSERT INTO notes VALUES ($1)").bind(note);
        let done = insert.execute(connection).await;
        done.map(drop).map_err(StoreError::in_transaction)
    }
}

/// A handle as the patterns have them: no type parameters, any connection.
#[derive(Clone)]
struct Handle(Arc<dyn Store>);

impl Handle {
    async fn append_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        note: &str,
    ) -> Result<AfterCommit, StoreError> {
        self.0.append(connection.lend(), note).await?;
        Ok(AfterCommit::nothing())
    }
}

async fn order(
    handle: Handle,
    pool: PgPool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut theirs = pool.begin().await?;
    handle.append_in(&mut *theirs, "theirs").await?.fire();
    theirs.commit().await?;
    let mut ours = Guarded::begin(&pool, Deadline::after(Deadline::SQL)).await?;
    let wake = handle.append_in(&mut *ours, "ours").await?;
    ours.commit().await?;
    wake.fire();
    let mut plain = pool.acquire().await?;
    handle.append_in(&mut *plain, "plain").await?.fire();
    Ok(())
}

#[tokio::test]
async fn a_store_writes_into_the_users_transaction_and_into_ours_on_a_spawned_task() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = PgPool::connect(database.url()).await.unwrap();
    sqlx::raw_sql("CREATE TABLE notes (note text)")
        .execute(&pool)
        .await
        .unwrap();
    let handle = Handle(Arc::new(OnPostgres));
    tokio::spawn(order(handle, pool.clone()))
        .await
        .unwrap()
        .unwrap();
    let count = sqlx::query_scalar("SELECT count(*) FROM notes");
    let count: i64 = count.fetch_one(&pool).await.unwrap();
    assert_eq!(count, 3);
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_connection_of_another_dialect_is_refused_by_type() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    assert_eq!(connection.dialect(), Dialect::Sqlite);
    let error = connection.lend().postgres().unwrap_err();
    assert_eq!(
        (error.expected(), error.found()),
        (Dialect::Postgres, Dialect::Sqlite)
    );
    let handle = Handle(Arc::new(OnPostgres));
    let error = handle.append_in(&mut connection, "x").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misused);
    assert!(error.driver().unwrap().is::<WrongDialect>());
}
