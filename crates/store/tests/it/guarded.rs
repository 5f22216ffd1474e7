//! Transactions that are dropped, late, refused or ended in order.

use std::time::Duration;

use buttress_core::{Chain, Class};
use buttress_store::{Deadline, Guarded, Isolation, Loan, Phase, StoreError, StoreErrorKind};
use buttress_testkit::{
    cancel_sweep::{Point, cancel_sweep},
    clean_pool, mysql,
    postgres::fresh_database,
    proxy::Proxy,
};
use sqlx::{
    PgPool,
    mysql::MySqlPoolOptions,
    postgres::{PgPoolOptions, Postgres},
};

async fn pool(url: &str) -> PgPool {
    let options = PgPoolOptions::new().max_connections(1);
    let pool = options.connect(url).await.unwrap();
    let create = "CREATE TABLE IF NOT EXISTS notes (id bigint PRIMARY KEY, who text UNIQUE)";
    sqlx::raw_sql(create).execute(&pool).await.unwrap();
    pool
}

async fn write(pool: &PgPool, id: i64) -> Result<(), StoreError> {
    let deadline = Deadline::after(Deadline::SQL);
    let mut transaction = Guarded::begin_at(Isolation::ReadCommitted, pool, deadline).await?;
    let insert = sqlx::query("INSERT INTO notes (id) VALUES ($1)").bind(id);
    let insert = insert.execute(&mut *transaction);
    deadline.run(Phase::InTransaction, insert).await?;
    transaction.commit().await
}

async fn backend(pool: &PgPool) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_transaction_may_be_dropped_at_every_point() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(database) = fresh_database().await else {
        return;
    };
    let (_proxy, through) = Proxy::before(database.url()).await.unwrap();
    let pool = pool(&through).await;
    let observer = PgPool::connect(database.url()).await.unwrap();
    let mut id = 0;
    let swept = cancel_sweep(
        async || {
            id += 1;
            write(&pool, id).await
        },
        async |point| {
            assert_eq!(clean_pool::probe(&pool).await.unwrap(), 1, "{point}");
            assert!(point != Point::Completed || count(&observer).await > 0);
        },
    )
    .await;
    swept.output.unwrap();
    println!(
        "a guarded transaction on PostgreSQL: {} points",
        swept.points
    );
    observer.close().await;
    pool.close().await;
    database.close().await.unwrap();
}

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM notes")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_connection_goes_back_after_a_commit_and_after_a_refusal_and_not_after_a_drop() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = pool(database.url()).await;
    let first = backend(&pool).await;
    write(&pool, 1).await.unwrap();
    assert_eq!(backend(&pool).await, first, "after a commit");

    let deadline = Deadline::after(Deadline::SQL);
    let mut transaction = Guarded::begin(&pool, deadline).await.unwrap();
    let twice = sqlx::query("INSERT INTO notes (id) VALUES (1)").execute(&mut *transaction);
    let result = deadline.run(Phase::InTransaction, twice).await;
    let error = transaction.finish(result).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Duplicate);
    assert_eq!(backend(&pool).await, first, "after a refusal");

    drop(Guarded::begin(&pool, deadline).await.unwrap());
    assert_ne!(backend(&pool).await, first, "after a drop");

    let second = backend(&pool).await;
    Loan::acquire(&pool, deadline).await.unwrap().give_back();
    assert_eq!(backend(&pool).await, second, "a loan given back");
    drop(Loan::acquire(&pool, deadline).await.unwrap());
    assert_ne!(backend(&pool).await, second, "a loan dropped");
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_struck_deadline_closes_the_connection_and_says_what_is_known() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = pool(database.url()).await;
    let first = backend(&pool).await;
    for (phase, class) in [
        (Phase::InTransaction, Class::NotDone),
        (Phase::Statement, Class::Unknown),
    ] {
        let deadline = Deadline::after(Duration::from_millis(50));
        let mut loan = Loan::acquire(&pool, Deadline::after(Deadline::SQL))
            .await
            .unwrap();
        let slow = sqlx::raw_sql("SELECT pg_sleep(60)").execute(&mut *loan);
        let error = deadline.run(phase, slow).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class()),
            (StoreErrorKind::Deadline, class)
        );
    }
    assert_ne!(backend(&pool).await, first);
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn an_isolation_level_is_asked_for_with_the_begin() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = pool(database.url()).await;
    for (isolation, name) in [
        (Isolation::Session, "read committed"),
        (Isolation::ReadCommitted, "read committed"),
        (Isolation::RepeatableRead, "repeatable read"),
        (Isolation::Serializable, "serializable"),
    ] {
        let deadline = Deadline::after(Deadline::SQL);
        let mut transaction = Guarded::begin_at(isolation, &pool, deadline).await.unwrap();
        let show = sqlx::query_scalar("SHOW transaction_isolation");
        let level: String = show.fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(level, name);
        transaction.rollback().await.unwrap();
    }
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn neither_display_nor_debug_nor_the_chain_shows_a_value() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = pool(database.url()).await;
    let insert = "INSERT INTO notes VALUES (1, 'canary@example.org'), (2, 'canary@example.org')";
    let error = sqlx::raw_sql(insert).execute(&pool).await.unwrap_err();
    let error = StoreError::of_sqlx(error, Phase::Statement);
    for text in [
        error.to_string(),
        format!("{error:?}"),
        format!("{error:#?}"),
        Chain(&error).to_string(),
    ] {
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("23505"), "{text}");
    }
    // A program that must know can.
    let driver = error
        .driver()
        .unwrap()
        .downcast_ref::<sqlx::Error>()
        .unwrap();
    assert!(format!("{driver:?}").contains("canary"));
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn its_futures_can_be_spawned() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let pool = pool(database.url()).await;
    let ours = pool.clone();
    let spawned = tokio::spawn(async move { write(&ours, 7).await });
    spawned.await.unwrap().unwrap();
    let _: Option<Guarded<Postgres>> = None;
    pool.close().await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_transaction_may_be_dropped_at_every_point_on_mariadb() {
    let _tally = buttress_testkit::tally::suite("X1");
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let (_proxy, through) = Proxy::before(database.url()).await.unwrap();
    let options = MySqlPoolOptions::new().max_connections(1);
    let pool = options.connect(&through).await.unwrap();
    let create = "CREATE TABLE notes (id BIGINT AUTO_INCREMENT PRIMARY KEY)";
    sqlx::raw_sql(create).execute(&pool).await.unwrap();
    let swept = cancel_sweep(
        async || {
            let deadline = Deadline::after(Deadline::SQL);
            let level = Isolation::ReadCommitted;
            let mut transaction = Guarded::begin_at(level, &pool, deadline).await?;
            let insert = sqlx::raw_sql("INSERT INTO notes VALUES ()").execute(&mut *transaction);
            deadline.run(Phase::InTransaction, insert).await?;
            transaction.commit().await
        },
        async |point| {
            assert_eq!(clean_pool::probe(&pool).await.unwrap(), 1, "{point}");
        },
    )
    .await;
    swept.output.unwrap();
    assert!(swept.points >= 6, "{} points are no sweep", swept.points);
    pool.close().await;
    database.close().await.unwrap();
}
