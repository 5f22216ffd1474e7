//! When the database does not answer.

use std::time::{Duration, Instant};

use buttress_testkit::{
    left_out::LeftOut,
    postgres::{self, fresh_database},
    proxy::{Cut, Proxy, Way},
};
use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};

use crate::shop::{Database, Shop, data, error, two_of};

#[tokio::test]
async fn a_database_that_is_locked_for_long_is_unavailable_and_reads_go_on() {
    let database = Database::sqlite();
    let shop = Shop::start(&database);
    let before = shop.accepted("before", &two_of("p2")).await;
    shop.settled(&before).await;
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
    for path in ["/products", "/orders", &format!("/orders/{before}")] {
        let read = shop.get(path).send().await.unwrap();
        assert_eq!(read.status(), 200, "{path}");
    }
    writer.execute("ROLLBACK").await.unwrap();
    writer.close().await.unwrap();
    // Nothing of the refused one stays: its key is free, or holds the one order.
    let id = shop.accepted("k", &two_of("p1")).await;
    assert_eq!(shop.settled(&id).await["status"], "confirmed");
    assert_eq!(shop.all("orders").await.len(), 2);
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

// The proxy runs beside a start that is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_a_black_hole_is_unavailable_in_time_and_back_at_once_when_healed() {
    let Some(database) = fresh_database().await else {
        return;
    };
    let (proxy, url) = Proxy::before(database.url()).await.unwrap();
    let shop = Shop::start_at(&url, &[]);
    let confirmed = shop.accepted("before", &two_of("p1")).await;
    shop.settled(&confirmed).await;
    proxy.black_hole(Way::ToServer);
    let order = two_of("p1");
    let asked = Instant::now();
    let (read, write, ready) = tokio::join!(
        shop.get("/products").send(),
        shop.order("during", &order),
        shop.get("/readyz").send(),
    );
    assert!(
        asked.elapsed() < Duration::from_secs(7),
        "{:?}",
        asked.elapsed()
    );
    error(read.unwrap(), 503, "UNAVAILABLE").await;
    error(write, 503, "UNAVAILABLE").await;
    error(ready.unwrap(), 503, "NOT_READY").await;
    proxy.heal().await.unwrap();
    let healed = Instant::now();
    assert_eq!(shop.get("/products").send().await.unwrap().status(), 200);
    assert!(
        healed.elapsed() < Duration::from_secs(2),
        "{:?}",
        healed.elapsed()
    );
    let id = shop.accepted("during", &two_of("p1")).await;
    assert_eq!(shop.settled(&id).await["status"], "confirmed");
    assert_eq!(shop.all("orders").await.len(), 2);
    shop.assert_invariants(1000).await;
    drop(shop);
    database.close().await.unwrap();
}

/// The client cannot know whether his order was placed, and need not: the key knows.
// The proxy runs beside a start that is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_commit_was_cut_is_one_order_when_it_is_sent_again() {
    for cut in [Cut::Before, Cut::During, Cut::Answer] {
        let Some(database) = fresh_database().await else {
            return;
        };
        let (proxy, url) = Proxy::before(database.url()).await.unwrap();
        let shop = Shop::start_at(&url, &[]);
        proxy.cut_at(Way::ToServer, *b"COMMIT", cut);
        let mut answer = shop.order("k", &two_of("p1")).await;
        // The settler's own commit may have been the one that was cut.
        if answer.status() == 503 {
            error(answer, 503, "UNAVAILABLE").await;
            answer = shop.order("k", &two_of("p1")).await;
        }
        assert_eq!(answer.status(), 202);
        let id = data(answer).await["id"].as_str().unwrap().to_owned();
        assert_eq!(shop.settled(&id).await["status"], "confirmed");
        assert_eq!(shop.all("orders").await.len(), 1);
        assert_eq!(proxy.struck(), 1);
        shop.assert_invariants(1000).await;
        drop(shop);
        database.close().await.unwrap();
    }
}
