//! The probe finds the connections that lose writes: those of plain sqlx after a cancelled `begin`.
//!
//! The servers are reached through a proxy that does nothing: it runs on the test's own thread, so
//! every answer is waited for, and the sweep has the same points each time.

use buttress_testkit::{
    cancel_sweep::CancelSweep,
    clean_pool::{Probed, Unclean, probe},
    mysql, postgres,
    proxy::Proxy,
};
use sqlx::{
    Executor, IntoArguments, MySqlPool, PgPool, Pool, SqlitePool,
    mysql::MySqlPoolOptions,
    pool::PoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

const CONNECTIONS: u32 = 2;

/// How often the pool was found unclean, when `begin` was dropped at every point.
async fn losses<D: Probed>(pool: &Pool<D>) -> usize
where
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    D::Arguments: IntoArguments<D>,
{
    let mut losses = 0;
    let sure = CancelSweep::default().confirmed(5);
    let swept = sure
        .run(
            async || pool.begin().await.unwrap().rollback().await.unwrap(),
            async |point| match probe(pool).await {
                Ok(connections) => assert_eq!(connections, CONNECTIONS as usize),
                Err(Unclean::LostWrite { lost: 1, .. }) => losses += 1,
                Err(error) => panic!("{point}: {error:?}"),
            },
        )
        .await;
    assert!(swept.points > 0);
    losses
}

/// What is done about it by hand, until something better is at hand.
fn rolls_back<D: Probed>(options: PoolOptions<D>) -> PoolOptions<D>
where
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
{
    options.after_release(|connection, _| {
        Box::pin(async move {
            connection.execute("ROLLBACK").await?;
            Ok(true)
        })
    })
}

async fn a_transaction_is_found<D: Probed>(pool: Pool<D>)
where
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    D::Arguments: IntoArguments<D>,
{
    assert_eq!(probe(&pool).await.unwrap(), CONNECTIONS as usize);
    let mut connection = pool.acquire().await.unwrap();
    connection.execute("BEGIN").await.unwrap();
    drop(connection);
    let found = probe(&pool).await.unwrap_err();
    // SQLite has one writer: the other connection is refused.
    assert!(
        matches!(
            found,
            Unclean::LostWrite {
                lost: 1,
                connections: 2
            } | Unclean::Refused(_)
        ),
        "{found:?}"
    );
    assert_eq!(probe(&pool).await.unwrap(), CONNECTIONS as usize, "closed");
    pool.close().await;
}

#[tokio::test]
async fn plain_sqlx_loses_a_write_on_postgres_after_a_cancelled_begin_and_the_sweep_finds_it() {
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(database.url()).await.unwrap();
    let options = || PgPoolOptions::new().max_connections(CONNECTIONS);
    let plain: PgPool = options().connect(&url).await.unwrap();
    assert!(losses(&plain).await > 0, "then sqlx is repaired: say so");
    let hardened = rolls_back(options()).connect(&url).await.unwrap();
    assert_eq!(losses(&hardened).await, 0);
    a_transaction_is_found(plain).await;
    hardened.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn plain_sqlx_loses_a_write_on_mysql_after_a_cancelled_begin_and_the_sweep_finds_it() {
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let (_proxy, url) = Proxy::before(database.url()).await.unwrap();
    let options = || MySqlPoolOptions::new().max_connections(CONNECTIONS);
    let plain: MySqlPool = options().connect(&url).await.unwrap();
    assert!(losses(&plain).await > 0, "then sqlx is repaired: say so");
    let hardened = rolls_back(options()).connect(&url).await.unwrap();
    assert_eq!(losses(&hardened).await, 0);
    a_transaction_is_found(plain).await;
    hardened.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn plain_sqlx_keeps_its_writes_on_sqlite_and_an_open_transaction_is_found() {
    let room = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(room.path().join("database"))
        .create_if_missing(true)
        .busy_timeout(std::time::Duration::from_millis(50));
    let plain: SqlitePool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect_with(options)
        .await
        .unwrap();
    assert_eq!(losses(&plain).await, 0);
    a_transaction_is_found(plain).await;
}

#[tokio::test]
async fn a_connection_that_is_not_given_back_is_missed_by_name() {
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let pool: PgPool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(std::time::Duration::from_millis(300))
        .connect(database.url())
        .await
        .unwrap();
    let kept = pool.acquire().await.unwrap();
    let missed = probe(&pool).await.unwrap_err();
    assert_eq!(missed.to_string(), "connection 2 of 2 is not to be had");
    drop(kept);
    probe(&pool).await.unwrap();
    pool.close().await;
    database.close().await.unwrap();
}
