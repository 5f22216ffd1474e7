//! SQLite: its options, its one writer.

use std::{sync::Arc, time::Duration};

use buttress_store::{Deadline, Guarded, Phase, StoreError, StoreErrorKind, sqlite};
use buttress_testkit::{cancel_sweep, clean_pool};
use futures_util::FutureExt as _;
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};
use tokio::sync::Mutex;

async fn open(folder: &tempfile::TempDir) -> SqlitePool {
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let options = sqlite::options(folder.path().join("a file.db"));
    let pool = SqlitePoolOptions::new()
        .connect_with(options)
        .await
        .unwrap();
    let create =
        "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY AUTOINCREMENT, task INTEGER)";
    sqlx::raw_sql(create).execute(&pool).await.unwrap();
    pool
}

#[tokio::test]
async fn the_options_are_what_the_database_says_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(&folder).await;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
    for (pragma, value) in [
        ("PRAGMA synchronous", 2), // FULL
        ("PRAGMA busy_timeout", 5000),
        ("PRAGMA foreign_keys", 1),
    ] {
        let told: i64 = sqlx::query_scalar(pragma).fetch_one(&pool).await.unwrap();
        assert_eq!(told, value, "{pragma}");
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_write_in_the_order_in_which_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(&folder).await;
    let writer = sqlite::Writer::new(pool.clone());
    let came = Arc::new(Mutex::new(Vec::new()));
    let first = writer.begin(Deadline::after(Deadline::SQL)).await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..50_i64 {
        let (writer, came) = (writer.clone(), Arc::clone(&came));
        let (queued, told) = tokio::sync::oneshot::channel();
        tasks.push(tokio::spawn(async move {
            let deadline = Deadline::after(Duration::from_secs(30));
            let mut turn = std::pin::pin!(writer.begin(deadline));
            // Polled once, so it stands in the queue before the next one is let off.
            assert!(turn.as_mut().now_or_never().is_none());
            queued.send(()).unwrap();
            let mut transaction = turn.await.unwrap();
            came.lock().await.push(task);
            let insert = sqlx::query("INSERT INTO notes (task) VALUES (?)").bind(task);
            let insert = insert.execute(&mut *transaction);
            deadline.run(Phase::InTransaction, insert).await.unwrap();
            transaction.commit().await.unwrap();
        }));
        told.await.unwrap();
    }
    first.rollback().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    let order: Vec<i64> = (0..50).collect();
    assert_eq!(*came.lock().await, order);
    let stored = sqlx::query_scalar("SELECT task FROM notes ORDER BY id");
    let stored: Vec<i64> = stored.fetch_all(&pool).await.unwrap();
    assert_eq!(stored, order);
    pool.close().await;
}

#[tokio::test]
async fn a_writer_may_be_dropped_at_every_point() {
    let _tally = buttress_testkit::tally::suite("X1");
    let folder = tempfile::tempdir().unwrap();
    let pool = open(&folder).await;
    let writer = sqlite::Writer::new(pool.clone());
    let next = writer.clone();
    let (mut rounds, mut points) = (0, 0);
    // An answer may come before it is waited for: one sweep does not meet every await.
    while rounds < 50 {
        let swept = cancel_sweep(
            async || {
                let deadline = Deadline::after(Deadline::SQL);
                let mut transaction = writer.begin(deadline).await?;
                let insert = sqlx::query("INSERT INTO notes (task) VALUES (1)");
                let insert = insert.execute(&mut *transaction);
                deadline.run(Phase::InTransaction, insert).await?;
                transaction.commit().await
            },
            async |point| {
                let transaction = next.begin(Deadline::after(Deadline::SQL)).await;
                let mut transaction =
                    transaction.unwrap_or_else(|error| panic!("{point}: {error}"));
                let insert = sqlx::query("INSERT INTO notes (task) VALUES (2) RETURNING id");
                sqlx::Executor::fetch_one(&mut *transaction, insert)
                    .await
                    .unwrap();
                transaction.commit().await.unwrap();
            },
        )
        .await;
        swept.output.unwrap();
        rounds += 1;
        points += swept.points;
    }
    println!("the writer on SQLite: {points} points in {rounds} sweeps");
    assert!(points > rounds);
    let proven = clean_pool::probe(&pool).await.unwrap();
    assert_eq!(proven, pool.options().get_max_connections() as usize);
    pool.close().await;
}

#[tokio::test]
async fn a_writer_that_waits_too_long_is_told_so_and_leaves_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(&folder).await;
    let writer = sqlite::Writer::new(pool.clone());
    let first = writer.begin(Deadline::after(Deadline::SQL)).await.unwrap();
    let short = Deadline::after(Duration::from_millis(20));
    let error = writer.begin(short).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Deadline);
    first.commit().await.unwrap();
    writer
        .begin(Deadline::after(Deadline::SQL))
        .await
        .unwrap()
        .rollback()
        .await
        .unwrap();
    pool.close().await;
}

#[tokio::test]
async fn a_database_in_memory_survives_a_dropped_transaction() {
    let options = SqlitePoolOptions::new().max_connections(1);
    let pool = options.connect("sqlite::memory:").await.unwrap();
    sqlx::raw_sql("CREATE TABLE notes (id INTEGER)")
        .execute(&pool)
        .await
        .unwrap();
    let mut dropped = Guarded::begin(&pool, Deadline::after(Deadline::SQL))
        .await
        .unwrap();
    let insert = sqlx::query("INSERT INTO notes VALUES (1)");
    insert.execute(&mut *dropped).await.unwrap();
    drop(dropped);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM notes")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(count, 0);
}

/// SQLite takes a transaction back by itself when the disk is full, and sqlx does not notice.
#[tokio::test]
async fn a_connection_on_which_the_disk_was_full_begins_again() {
    let tally = buttress_testkit::tally::suite("OB9");
    let folder = tempfile::tempdir().unwrap();
    buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
    let options_of_one = SqlitePoolOptions::new().max_connections(1);
    let pool = options_of_one.connect_lazy_with(sqlite::options(folder.path().join("full.db")));
    sqlx::raw_sql("CREATE TABLE big (it BLOB); PRAGMA max_page_count = 10")
        .execute(&pool)
        .await
        .unwrap();
    let deadline = || Deadline::after(Deadline::SQL);
    for _ in 0..2 {
        let mut transaction = Guarded::begin(&pool, deadline()).await.unwrap();
        let insert = sqlx::raw_sql("INSERT INTO big VALUES (zeroblob(1000000))");
        let full = insert.execute(&mut *transaction).await.unwrap_err();
        let full = StoreError::in_transaction(full);
        assert_eq!(full.kind(), StoreErrorKind::Full);
        drop(transaction);
    }
    let mut transaction = Guarded::begin(&pool, deadline()).await.unwrap();
    let insert = sqlx::raw_sql("INSERT INTO big VALUES (NULL)");
    insert.execute(&mut *transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut transaction = Guarded::begin(&pool, deadline()).await.unwrap();
    let insert = sqlx::raw_sql("INSERT INTO big VALUES (NULL)");
    insert.execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let count = sqlx::query_scalar("SELECT count(*) FROM big");
    assert_eq!(count.fetch_one(&pool).await.ok(), Some(1_i64));
    tally.faults(2);
}
