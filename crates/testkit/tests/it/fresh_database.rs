//! A fresh database a test.

use buttress_testkit::postgres::{fresh_database, shared_url};
use sqlx::{Connection as _, PgConnection};

async fn tables(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(connection)
        .await
}

#[tokio::test]
async fn a_fresh_database_is_empty_and_nobody_elses() -> Result<(), sqlx::Error> {
    let (Some(one), Some(other)) = (fresh_database().await, fresh_database().await) else {
        return Ok(());
    };
    assert_ne!(one.name(), other.name());
    let mut in_one = PgConnection::connect(one.url()).await?;
    let mut in_other = PgConnection::connect(other.url()).await?;
    assert_eq!(tables(&mut in_one).await?, 0);
    sqlx::raw_sql("CREATE TABLE mine (id BIGINT)")
        .execute(&mut in_one)
        .await?;
    assert_eq!(tables(&mut in_one).await?, 1);
    assert_eq!(tables(&mut in_other).await?, 0);
    one.close().await?;
    other.close().await
}

#[tokio::test]
async fn a_closed_database_is_gone_even_with_guests() -> Result<(), sqlx::Error> {
    let Some(database) = fresh_database().await else {
        return Ok(());
    };
    let name = database.name().to_owned();
    let mut guest = PgConnection::connect(database.url()).await?;
    database.close().await?;
    guest.ping().await.unwrap_err();
    let server = shared_url().unwrap();
    let mut connection = PgConnection::connect(&server).await?;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(left, 0);
    Ok(())
}
