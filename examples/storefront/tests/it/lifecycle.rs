//! Starting, stopping, dying, and starting again.

use std::time::{Duration, Instant};

use buttress_testkit::short_or_long;
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::shop::{Database, Shop, on_each, two_of};

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
    on_each(|database| async move {
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
    })
    .await;
}

/// The other instance goes on with them, whatever they wait for.
#[tokio::test]
async fn what_a_dead_process_held_is_free_within_ten_seconds() {
    on_each(|database| async move {
        let (victim, other) = (Shop::start(&database), Shop::start(&database));
        victim.fault("payments", "hang", 1.0, 0).await;
        let mut ids = Vec::new();
        for number in 0..12 {
            let order = two_of(&format!("p{}", 1 + number));
            ids.push(victim.accepted(&format!("{number}"), &order).await);
        }
        // All that it has claimed is in the middle of a charge.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let killed = Instant::now();
        victim.kill9();
        for id in &ids {
            let order = other.settled(id).await;
            assert_eq!(
                order["status"], "confirmed",
                "a crash cancels nothing: {order}"
            );
        }
        let took = killed.elapsed();
        println!("settled {took:?} after the death");
        assert!(took < Duration::from_secs(12), "{took:?}");
        other.assert_invariants(1000).await;
        drop(other);
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_graceful_stop_hands_all_claims_back() {
    let database = Database::sqlite();
    let mut shop = Shop::start(&database);
    shop.fault("payments", "slow", 1.0, 700).await;
    let mut ids = Vec::new();
    for number in 0..12 {
        let order = two_of(&format!("p{}", 1 + number));
        ids.push(shop.accepted(&format!("{number}"), &order).await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    shop.signal(Signal::SIGTERM);
    let ended = shop.ended(Duration::from_secs(12)).await.expect("it ends");
    assert!(ended.success());
    let options: SqliteConnectOptions = database.url().parse().unwrap();
    let mut reader = options.connect().await.unwrap();
    let count = async |reader: &mut sqlx::SqliteConnection, which: &'static str| {
        let count: i64 = sqlx::query_scalar(which).fetch_one(reader).await.unwrap();
        count
    };
    let held = "SELECT count(*) FROM buttress_saga WHERE token IS NOT NULL";
    assert_eq!(count(&mut reader, held).await, 0);
    let open = "SELECT count(*) FROM buttress_saga WHERE state < 2";
    assert!(
        count(&mut reader, open).await > 0,
        "it stopped in the middle"
    );
    reader.close().await.unwrap();
    let shop = Shop::start(&database);
    for id in &ids {
        assert_eq!(shop.settled(id).await["status"], "confirmed");
    }
    shop.assert_invariants(1000).await;
}

/// Killed again and again, in whatever it does, while the services behind it fail in every way.
#[tokio::test]
async fn no_order_needs_attention_however_often_the_process_is_killed() {
    on_each(|database| async move {
        let (rounds, mut ids) = (short_or_long(6, 60), Vec::new());
        for round in 0..rounds {
            let shop = Shop::start(&database);
            let mode = ["hang", "error", "lost", "slow"][round % 4];
            shop.fault("payments", mode, 0.7, 400).await;
            shop.fault("shipments", mode, 0.5, 200).await;
            for number in 0..4 {
                let mut order = two_of(&format!("p{}", 1 + (round + number) % 40));
                if number == 3 {
                    order["payment_method"] = "pm_declined".into();
                }
                ids.push(shop.accepted(&format!("{round}-{number}"), &order).await);
            }
            tokio::time::sleep(Duration::from_millis(100 + 900 * (round as u64 % 3))).await;
            shop.kill9();
        }
        let shop = Shop::start(&database);
        for id in &ids {
            let order = shop.settled(id).await;
            assert_ne!(order["status"], "needs_attention", "{order}");
        }
        // That nothing else has any other status is among the invariants.
        shop.assert_invariants(1000).await;
        drop(shop);
        database.close().await;
    })
    .await;
}
