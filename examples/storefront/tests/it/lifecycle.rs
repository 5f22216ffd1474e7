//! Starting, stopping, dying, and starting again.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::shop::{Database, Shop, error, two_of};

#[tokio::test]
async fn sigterm_ends_what_is_in_flight_and_exits_with_zero() {
    let database = Database::sqlite();
    let mut shop = Shop::start(&database);
    shop.fault("carrier", "hang", 1.0, 0).await;
    let in_flight = tokio::spawn(shop.get("/shipping-quotes?country=SE&quantity=1").send());
    let arrived = Instant::now();
    while !shop.log().contains("shipping-quotes") && arrived.elapsed() < Duration::from_millis(500)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shop.signal(Signal::SIGTERM);
    error(in_flight.await.unwrap().unwrap(), 504, "UPSTREAM_TIMEOUT").await;
    let status = shop
        .ended(Duration::from_secs(12))
        .await
        .expect("it ends within its grace");
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn readyz_answers_503_while_draining_and_other_routes_still_answer() {
    let database = Database::sqlite();
    let mut shop = Shop::start_with(&database, &["--drain-ms", "2000"]);
    assert_eq!(shop.get("/readyz").send().await.unwrap().status(), 200);
    shop.signal(Signal::SIGTERM);
    let told = Instant::now();
    loop {
        let response = shop.get("/readyz").send().await.unwrap();
        if response.status() == 503 {
            assert_eq!(response.headers()["retry-after"], "1");
            error(response, 503, "NOT_READY").await;
            break;
        }
        assert!(
            told.elapsed() < Duration::from_secs(1),
            "the signal was not heard"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shop.get("/products").send().await.unwrap().status(), 200);
    assert!(
        shop.ended(Duration::from_secs(14))
            .await
            .expect("it ends")
            .success()
    );
}

#[tokio::test]
async fn logs_are_one_json_object_a_line() {
    let database = Database::sqlite();
    let mut shop = Shop::start(&database);
    shop.get("/nowhere?secret=1").send().await.unwrap();
    shop.fault("carrier", "error", 1.0, 0).await;
    shop.get("/shipping-quotes?country=SE&quantity=1")
        .send()
        .await
        .unwrap();
    shop.signal(Signal::SIGINT);
    assert!(
        shop.ended(Duration::from_secs(12))
            .await
            .expect("it ends")
            .success()
    );
    let log = shop.log();
    for line in log.lines() {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry.is_object() && entry["level"].is_string(), "{line}");
    }
    assert!(log.contains("UPSTREAM_FAILED"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_start_that_fails_says_why_without_the_password() {
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_storefront"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env(
            "STOREFRONT_DATABASE_URL",
            "postgres://shop:hunter2@127.0.0.1:1/shop",
        )
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(refused.stdout.is_empty());
    let log = String::from_utf8(refused.stderr).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert!(
        last["error"].as_str().unwrap().contains("the database"),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn after_kill_9_a_new_start_carries_on_where_the_old_one_was() {
    for database in Database::each().await {
        let mut ids = Vec::new();
        for round in 0..8_u64 {
            let started = Instant::now();
            let shop = Shop::start(&database);
            assert!(started.elapsed() < Duration::from_secs(30));
            shop.fault("payments", "lost", 0.3, 0).await;
            shop.fault("shipments", "slow", 0.5, 300).await;
            for number in 0..6 {
                let order = two_of(&format!("p{}", 1 + number));
                ids.push(shop.accepted(&format!("{round}-{number}"), &order).await);
            }
            // Anywhere between the acceptance of the last and the end of all.
            tokio::time::sleep(Duration::from_millis(round * 40)).await;
            shop.kill9();
        }
        let shop = Shop::start(&database);
        for id in &ids {
            let order = shop.settled(id).await;
            assert_eq!(
                order["status"], "confirmed",
                "a crash cancels nothing: {order}"
            );
        }
        assert_eq!(shop.all("orders").await.len(), ids.len());
        shop.assert_invariants(1000).await;
        drop(shop);
        database.close().await;
    }
}
