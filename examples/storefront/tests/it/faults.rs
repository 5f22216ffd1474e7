//! Orders while the services behind the shop fail, in every way they can.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::shop::{Database, Shop, error, two_of};

#[tokio::test]
async fn a_fault_that_makes_no_sense_is_refused() {
    let shop = Shop::alone();
    for (fault, path) in [
        (json!({ "target": "moon", "mode": "ok" }), "target"),
        (json!({ "target": "carrier", "mode": "explode" }), "mode"),
        (
            json!({ "target": "carrier", "mode": "slow", "rate": 1.5 }),
            "rate",
        ),
        (
            json!({ "target": "carrier", "mode": "slow", "latency_ms": 60_001 }),
            "latency_ms",
        ),
    ] {
        let told = error(
            shop.post("/faults").json(&fault).send().await.unwrap(),
            422,
            "VALIDATION_FAILED",
        )
        .await;
        assert!(
            told["details"].as_object().unwrap().contains_key(path),
            "{told}"
        );
    }
}

/// Places orders while `target` goes wrong, heals it, and gives how each order ended.
async fn orders_through(
    shop: &Shop,
    target: &str,
    mode: &str,
    rate: f64,
    latency_ms: u64,
) -> Vec<Value> {
    shop.fault(target, mode, rate, latency_ms).await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let order = two_of(&format!("p{}", 1 + number));
        ids.push(
            shop.accepted(&format!("{target}-{mode}-{number}"), &order)
                .await,
        );
    }
    // Long enough for a charge to be given up, and for late effects to come late.
    tokio::time::sleep(Duration::from_secs(4)).await;
    shop.fault(target, "ok", 1.0, 0).await;
    let mut settled = Vec::new();
    for id in &ids {
        settled.push(shop.settled(id).await);
    }
    settled
}

#[tokio::test]
async fn charges_whose_answers_are_lost_are_made_once_or_refunded() {
    let databases = Database::each().await.into_iter();
    let each = databases.map(|database| async move {
        let shop = Shop::start(&database);
        for rate in [0.5, 1.0] {
            orders_through(&shop, "payments", "lost", rate, 0).await;
        }
        shop.assert_invariants(1000).await;
        drop(shop);
        database.close().await;
    });
    join_all(each).await;
}

#[tokio::test]
async fn a_charge_that_comes_after_its_cancellation_is_refused() {
    let shop = Shop::alone();
    let settled = orders_through(&shop, "payments", "slow", 1.0, 14_000).await;
    // Until the last late charge has come.
    tokio::time::sleep(Duration::from_secs(15)).await;
    shop.assert_invariants(1000).await;
    assert!(settled.iter().any(|order| order["status"] == "confirmed" || order["reason"] == "PAYMENT_UNAVAILABLE"));
}

#[tokio::test]
async fn payments_that_are_down_cancel_orders_after_a_while_and_nothing_is_charged() {
    let shop = Shop::alone();
    shop.fault("payments", "error", 1.0, 0).await;
    let id = shop.accepted("k", &two_of("p1")).await;
    let pending = loop {
        let order = shop.read(&format!("/orders/{id}")).await["data"].take();
        let charge = &order["steps"][1];
        // The fifth try has come to its end, retries included.
        if charge["attempts"] == 5 && charge["state"] != "running" {
            break order;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        pending["status"], "pending",
        "the cancellation has to reach the payments first"
    );
    shop.fault("payments", "ok", 1.0, 0).await;
    let settled = shop.settled(&id).await;
    assert_eq!(settled["reason"], "PAYMENT_UNAVAILABLE");
    assert_eq!(settled["steps"][0]["state"], "undone");
    shop.assert_invariants(1000).await;
    assert_eq!(shop.read("/ledger").await["data"]["charges"], json!([]));
}

#[tokio::test]
async fn shipments_are_retried_until_they_work_and_never_cost_an_order() {
    let each = ["error", "lost", "hang"].map(|mode| async move {
        let shop = Shop::alone();
        for order in orders_through(&shop, "shipments", mode, 0.8, 0).await {
            assert_eq!(order["status"], "confirmed", "{order}");
        }
        shop.assert_invariants(1000).await;
    });
    join_all(each).await;
}

/// What the breaker keeps from the payments is no attempt, and gives no order up.
#[tokio::test]
async fn an_open_breaker_cancels_no_order_and_all_are_settled_soon_after_it_closes() {
    let modes = ["error", "hang", "lost"];
    join_all(modes.map(|mode| thirty_orders_through("payments", mode, 20))).await;
}

#[tokio::test]
async fn an_open_breaker_of_the_shipments_costs_no_order_either() {
    let modes = ["error", "hang", "lost"];
    join_all(modes.map(|mode| thirty_orders_through("shipments", mode, 30))).await;
}

/// Places orders while all calls to `target` go wrong, heals it, and checks that all are settled
/// soon, and at least `confirmed_at_least` confirmed.
async fn thirty_orders_through(target: &str, mode: &str, confirmed_at_least: usize) {
    let shop = Shop::alone();
    shop.fault(target, mode, 1.0, 0).await;
    let mut ids = Vec::new();
    for number in 0..30 {
        let order = two_of(&format!("p{}", 1 + number));
        ids.push(shop.accepted(&format!("{mode}-{number}"), &order).await);
    }
    // Longer than five tries would take without the breaker.
    tokio::time::sleep(Duration::from_secs(10)).await;
    shop.fault(target, "ok", 1.0, 0).await;
    let healed = Instant::now();
    let mut confirmed = 0;
    for id in &ids {
        let order = shop.settled(id).await;
        let tried = order["steps"][1]["attempts"].as_i64().unwrap();
        if order["status"] == "confirmed" {
            confirmed += 1;
        } else {
            assert_eq!(order["reason"], "PAYMENT_UNAVAILABLE");
            assert!(tried >= 5, "{mode}: {order}");
        }
    }
    let took = healed.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(confirmed >= confirmed_at_least, "{mode}: {confirmed}");
    shop.assert_invariants(1000).await;
}

#[tokio::test]
async fn a_charge_whose_answer_never_comes_is_given_up_and_refunded() {
    let databases = Database::each().await.into_iter();
    join_all(databases.map(given_up_and_refunded)).await;
}

async fn given_up_and_refunded(database: Database) {
    let shop = Shop::start(&database);
    shop.fault("payments", "lost", 1.0, 0).await;
    let id = shop.accepted("k", &two_of("p1")).await;
    loop {
        let order = shop.read(&format!("/orders/{id}")).await["data"].take();
        let charges = shop.read("/ledger").await["data"]["charges"].take();
        // The cancellation is done, and its answer is lost as well.
        if charges[0]["refunded"].as_i64().is_some_and(|it| it > 0) {
            assert_eq!(order["steps"][1]["state"], "unknown", "{order}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    shop.fault("payments", "ok", 1.0, 0).await;
    let settled = shop.settled(&id).await;
    assert_eq!(settled["reason"], "PAYMENT_UNAVAILABLE");
    shop.assert_invariants(1000).await;
    drop(shop);
    database.close().await;
}

/// Each answer that is lost makes the retry send the charge again, under the key of the first.
#[tokio::test]
async fn a_retry_never_makes_a_second_charge() {
    let shop = Shop::alone();
    shop.fault("payments", "lost", 0.4, 0).await;
    let mut ids = Vec::new();
    for number in 0..30 {
        let order = two_of(&format!("p{}", 1 + number));
        ids.push(shop.accepted(&format!("{number}"), &order).await);
    }
    for id in &ids {
        assert_eq!(shop.settled(id).await["status"], "confirmed");
    }
    let charges = shop.read("/ledger").await["data"]["charges"].take();
    assert_eq!(charges.as_array().unwrap().len(), ids.len());
    shop.assert_invariants(1000).await;
}
