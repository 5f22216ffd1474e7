//! When the database does not answer.

use std::time::{Duration, Instant};

use buttress_testkit::{left_out::LeftOut, postgres};
use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};

use crate::shop::{Database, Shop, error, two_of};

#[tokio::test]
async fn a_database_that_is_locked_for_long_is_unavailable_and_reads_go_on() {
    let database = Database::sqlite();
    let shop = Shop::start(&database);
    let options: SqliteConnectOptions = database.url().parse().unwrap();
    let mut writer = options.connect().await.unwrap();
    writer.execute("BEGIN IMMEDIATE").await.unwrap();
    let asked = Instant::now();
    let refused = shop.order("k", &two_of("p1")).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    error(refused, 503, "UNAVAILABLE").await;
    let waited = asked.elapsed();
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(12)).contains(&waited),
        "{waited:?}"
    );
    assert_eq!(shop.get("/products").send().await.unwrap().status(), 200);
    writer.execute("ROLLBACK").await.unwrap();
    writer.close().await.unwrap();
    // Nothing of the refused one stays: its key is free, or holds the one order.
    let id = shop.accepted("k", &two_of("p1")).await;
    assert_eq!(shop.settled(&id).await["status"], "confirmed");
    assert_eq!(shop.all("orders").await.len(), 1);
    shop.assert_invariants(1000).await;
}

#[tokio::test]
async fn a_database_that_is_gone_is_unavailable_and_the_shop_is_not_ready() {
    if let Err(missing) = postgres::find() {
        LeftOut::new("a database that is gone", missing.to_string()).register();
        return;
    }
    // A server of its own, for it is stopped.
    let server = postgres::Server::start().unwrap();
    let url = server.url("postgres");
    let shop = Shop::start_at(&url, &[]);
    assert_eq!(shop.get("/readyz").send().await.unwrap().status(), 200);
    drop(server);
    let asked = Instant::now();
    error(shop.get("/readyz").send().await.unwrap(), 503, "NOT_READY").await;
    let response = shop.get("/products").send().await.unwrap();
    assert!(
        asked.elapsed() < Duration::from_secs(12),
        "{:?}",
        asked.elapsed()
    );
    error(response, 503, "UNAVAILABLE").await;
    error(shop.order("k", &two_of("p1")).await, 503, "UNAVAILABLE").await;
    assert_eq!(
        shop.get("/healthz").send().await.unwrap().status(),
        200,
        "the process lives"
    );
}
