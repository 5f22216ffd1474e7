//! The kept proof: what a dropped `begin()` does to plain sqlx, and not to us.

use buttress_store::{Deadline, Guarded, Harden as _};
use buttress_testkit::{cancel_sweep::cancel_sweep, postgres::fresh_database};
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgPoolOptions};

use crate::proxy::Proxy;

/// One connection, so that the next borrower gets the one that was dropped.
fn alone() -> PgPoolOptions {
    PgPoolOptions::new().max_connections(1)
}

async fn table(url: &str) -> PgConnection {
    let mut observer = PgConnection::connect(url).await.unwrap();
    let create = "CREATE TABLE IF NOT EXISTS orders (id bigint GENERATED ALWAYS AS IDENTITY)";
    sqlx::raw_sql(create).execute(&mut observer).await.unwrap();
    observer
}

/// Whether the next borrower's acknowledged write is seen by others.
async fn next_write_is_visible(pool: &PgPool, observer: &mut PgConnection) -> bool {
    let insert = sqlx::query_scalar::<_, i64>("INSERT INTO orders DEFAULT VALUES RETURNING id");
    let id = insert.fetch_one(pool).await.unwrap();
    let visible = sqlx::query_scalar("SELECT EXISTS (SELECT FROM orders WHERE id = $1)");
    visible.bind(id).fetch_one(observer).await.unwrap()
}

/// At how many points of how many a write was lost.
async fn sweep<F: Future>(pool: &PgPool, url: &str, begin: impl Fn() -> F) -> (u32, u32) {
    let mut observer = table(url).await;
    let mut lost = 0;
    let swept = cancel_sweep(
        async || drop(begin().await),
        async |_| {
            if !next_write_is_visible(pool, &mut observer).await {
                lost += 1;
                // So that the next point is looked at by itself.
                sqlx::raw_sql("ROLLBACK").execute(pool).await.unwrap();
            }
        },
    )
    .await;
    assert!(swept.points >= 4, "{} points are no sweep", swept.points);
    (lost, swept.points)
}

#[tokio::test]
async fn plain_sqlx_loses_an_acknowledged_write_on_postgres() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (_proxy, through) = Proxy::before(database.url()).await;
    let pool = alone().connect(&through).await.unwrap();
    let (lost, points) = sweep(&pool, database.url(), || pool.begin()).await;
    println!("plain sqlx on PostgreSQL: lost at {lost} of {points} points");
    assert!(
        lost > 0,
        "sqlx is well again: say so in the docs, and keep the guard"
    );
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_hardened_pool_loses_none_on_postgres() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (_proxy, through) = Proxy::before(database.url()).await;
    let pool = alone().harden().connect(&through).await.unwrap();
    let (lost, points) = sweep(&pool, database.url(), || pool.begin()).await;
    println!("hardened pool on PostgreSQL: lost at {lost} of {points} points");
    assert_eq!(lost, 0);
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_guarded_transaction_on_a_plain_pool_loses_none_on_postgres() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (_proxy, through) = Proxy::before(database.url()).await;
    let pool = alone().connect(&through).await.unwrap();
    let begin = || Guarded::begin(&pool, Deadline::after(Deadline::SQL));
    let (lost, points) = sweep(&pool, database.url(), begin).await;
    println!("guarded on PostgreSQL: lost at {lost} of {points} points");
    assert_eq!(lost, 0);
    pool.close().await;
    database.close().await.unwrap();
}
