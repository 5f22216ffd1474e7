//! Several instances on one database.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::shop::{Database, Shop, Starting, two_of};

#[tokio::test]
async fn concurrent_first_starts_migrate_and_seed_once_and_a_restart_resets_nothing() {
    for database in Database::each().await {
        let starting: Vec<_> = (0..4).map(|_| Shop::spawn(&database, &[])).collect();
        let shops: Vec<_> = starting.into_iter().map(Starting::ready).collect();
        for shop in &shops {
            assert_eq!(shop.all("products").await.len(), 40);
        }
        let change = shops[0].patch("/products/p1").json(&json!({ "stock": 5 }));
        assert_eq!(change.send().await.unwrap().status(), 200);
        drop(shops);
        let shop = Shop::start(&database);
        let products = shop.all("products").await;
        let p1 = products
            .iter()
            .find(|product| product["id"] == "p1")
            .unwrap();
        assert_eq!(p1["stock"], 5);
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn one_key_is_one_order_over_all_instances_and_each_is_settled_once() {
    for database in Database::each().await {
        let shops: Vec<_> = (0..3).map(|_| Shop::start(&database)).collect();
        let mut ids = Vec::new();
        for number in 0..10 {
            let order = two_of(&format!("p{}", 1 + number));
            let key = format!("k{number}");
            let sends = shops.iter().map(|shop| shop.accepted(&key, &order));
            let answered = futures_util::future::join_all(sends).await;
            assert!(answered.iter().all(|id| *id == answered[0]), "{answered:?}");
            ids.push(answered[0].clone());
        }
        for id in &ids {
            assert_eq!(shops[0].settled(id).await["status"], "confirmed");
        }
        assert_eq!(shops[1].all("orders").await.len(), ids.len());
        shops[2].assert_invariants(1000).await;
        drop(shops);
        database.close().await;
    }
}

/// A stopped process that wakes up after its claims have lapsed is the zombie of this test.
///
/// On a server, which ends a session that stands still within a transaction. A process that is
/// stopped while it holds the lock on a SQLite file keeps everybody out until it goes on: that
/// lock is the kernel's, and no lease.
#[tokio::test]
async fn an_instance_that_slept_past_its_claims_changes_nothing_when_it_wakes() {
    let tally = buttress_testkit::tally::suite("ID3");
    for database in Database::servers().await {
        let (sleeper, other) = (Shop::start(&database), Shop::start(&database));
        sleeper.fault("payments", "slow", 1.0, 1000).await;
        other.fault("payments", "slow", 1.0, 1000).await;
        let mut ids = Vec::new();
        for number in 0..6 {
            let shop = if number % 2 == 0 { &sleeper } else { &other };
            ids.push(shop.accepted(&format!("k{number}"), &two_of("p1")).await);
        }
        sleeper.signal(Signal::SIGSTOP);
        for id in &ids {
            assert_eq!(other.settled(id).await["status"], "confirmed");
        }
        sleeper.signal(Signal::SIGCONT);
        // What it had asked of the database before its sleep may have been given up meanwhile, but
        // its sleep is no outage of the database's.
        sleeper.reads_again("/orders", Duration::from_secs(2)).await;
        // Its charges are answered by now, and what it makes of them is refused.
        assert_eq!(sleeper.all("orders").await.len(), ids.len());
        tokio::time::sleep(Duration::from_secs(2)).await;
        other.assert_invariants(1000).await;
        drop((sleeper, other));
        database.close().await;
    }
    tally.kills(1);
}
