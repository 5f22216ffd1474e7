//! Workers that abort before and after each operation of the store.

use buttress_testkit::fault::{CrashPoint, crash_points};

use tokio::time::timeout;

use super::{DOLLARS, EMPTY, MARKS, Shop, Strength, worker};
use crate::stand::{OnMySql, OnPostgres, OnSqlite, SECOND};

/// Aborted before and after every operation of its first four orders, two operations an order.
/// Returns how many points there were.
async fn abort_everywhere(store: &str, url: &str, strength: Strength) -> u32 {
    let (mut points, mut met) = (0, 0);
    for point in crash_points(8) {
        let spawn = worker(store, url, strength);
        let spawn = spawn.environment(CrashPoint::VARIABLE, point.to_string());
        let mut child = spawn.spawn();
        child.until("working").await;
        points += 1;
        // A heartbeat is an operation too, and one that is dropped with its guard never ends:
        // there the point "after" it is not met, and the worker is killed instead.
        met += u32::from(timeout(3 * SECOND, child.abort()).await.is_ok());
    }
    assert!(met * 2 > points, "{met} of {points} points were met");
    points
}

#[tokio::test]
async fn aborted_around_any_operation_on_postgres_an_order_is_placed_once() {
    let _tally = buttress_testkit::tally::suite("ID2 X4");
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let shop = Shop::<sqlx::Postgres>::new(on.pool.clone(), on.store.clone(), DOLLARS);
    shop.open().await;
    for strength in Strength::ALL {
        let aborted = abort_everywhere("postgres", on.database.url(), strength).await;
        assert!(shop.finish(strength).await <= i64::from(aborted));
        for sql in EMPTY {
            sqlx::query(sql).execute(&on.pool).await.unwrap();
        }
    }
    drop(shop);
    on.close().await;
}

#[tokio::test]
async fn aborted_around_any_operation_on_mysql_an_order_is_placed_once() {
    let _tally = buttress_testkit::tally::suite("ID2 X4");
    let Some(on) = OnMySql::start().await else {
        return;
    };
    let shop = Shop::<sqlx::MySql>::new(on.pool.clone(), on.store.clone(), MARKS);
    shop.open().await;
    for strength in [Strength::Recorded, Strength::Completed] {
        let aborted = abort_everywhere("mysql", on.database.url(), strength).await;
        assert!(shop.finish(strength).await <= i64::from(aborted));
        for sql in EMPTY {
            sqlx::query(sql).execute(&on.pool).await.unwrap();
        }
    }
    drop(shop);
    on.close().await;
}

#[tokio::test]
async fn aborted_around_any_operation_on_sqlite_an_order_is_placed_once() {
    let _tally = buttress_testkit::tally::suite("ID2 X4");
    let on = OnSqlite::start().await;
    let pool = on.writer.pool().clone();
    let shop = Shop::<sqlx::Sqlite>::new(pool.clone(), on.store.clone(), MARKS);
    shop.open().await;
    let file = on.folder.path().join("test.db");
    for strength in Strength::ALL {
        let aborted = abort_everywhere("sqlite", file.to_str().unwrap(), strength).await;
        assert!(shop.finish(strength).await <= i64::from(aborted));
        for sql in EMPTY {
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
    }
}
