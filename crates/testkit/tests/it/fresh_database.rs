//! A fresh database a test, and fresh keys.

use std::path::Path;

use buttress_testkit::{left_out::LeftOut, mysql, nats, postgres, redis};
use sqlx::{Connection as _, MySqlConnection, PgConnection};

#[tokio::test]
async fn a_fresh_postgres_database_is_empty_and_nobody_elses() -> Result<(), sqlx::Error> {
    async fn tables(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            .fetch_one(connection)
            .await
    }
    let (Some(one), Some(other)) = (
        postgres::fresh_database().await,
        postgres::fresh_database().await,
    ) else {
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
async fn a_fresh_mysql_database_is_empty_and_nobody_elses() -> Result<(), sqlx::Error> {
    async fn tables(connection: &mut MySqlConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = database()",
        )
        .fetch_one(connection)
        .await
    }
    let (Some(one), Some(other)) = (mysql::fresh_database().await, mysql::fresh_database().await)
    else {
        return Ok(());
    };
    assert_ne!(one.name(), other.name());
    let mut in_one = MySqlConnection::connect(one.url()).await?;
    let mut in_other = MySqlConnection::connect(other.url()).await?;
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
async fn a_closed_postgres_database_is_gone_even_with_guests() -> Result<(), sqlx::Error> {
    let Some(database) = postgres::fresh_database().await else {
        return Ok(());
    };
    let name = database.name().to_owned();
    let mut guest = PgConnection::connect(database.url()).await?;
    database.close().await?;
    guest.ping().await.unwrap_err();
    let server = postgres::shared_url().unwrap();
    let mut connection = PgConnection::connect(&server).await?;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(left, 0);
    Ok(())
}

#[tokio::test]
async fn a_closed_mysql_database_is_gone_even_with_guests() -> Result<(), sqlx::Error> {
    let Some(database) = mysql::fresh_database().await else {
        return Ok(());
    };
    let name = database.name().to_owned();
    let mut guest = MySqlConnection::connect(database.url()).await?;
    database.close().await?;
    let left: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?",
    )
    .bind(name)
    .fetch_one(&mut guest)
    .await?;
    assert_eq!(left, 0);
    guest.close().await
}

#[test]
fn a_fresh_prefix_is_nobody_elses_on_the_same_server() {
    let (Some(one), Some(other)) = (redis::fresh_prefix(), redis::fresh_prefix()) else {
        return;
    };
    assert_ne!(one.as_str(), other.as_str());
    assert_eq!(one.url(), other.url());
}

#[test]
fn a_fresh_name_is_nobody_elses_on_the_same_server() {
    let (Some(one), Some(other)) = (nats::fresh_name(), nats::fresh_name()) else {
        return;
    };
    assert_ne!(one.as_str(), other.as_str());
    assert_eq!(one.url(), other.url());
}

/// A server that starts removes every temporary table it finds in its folder: in `/tmp` those of
/// another one, which dies of it.
#[tokio::test]
async fn a_mysql_server_shares_its_temporary_tables_with_no_other() -> Result<(), sqlx::Error> {
    let server = match mysql::Server::start() {
        Ok(server) => server,
        Err(mysql::StartError::NotFound(why)) => {
            LeftOut::new("temporary tables of MySQL", why.to_string()).register();
            return Ok(());
        }
        Err(other) => panic!("{other}"),
    };
    let mut connection = MySqlConnection::connect(&server.url("mysql")).await?;
    let folder: String = sqlx::query_scalar("SELECT @@tmpdir")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(Path::new(&folder), server.directory().join("tmp"));
    connection.close().await
}
