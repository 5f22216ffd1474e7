//! Orders while the services behind the shop fail, in every way they can.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::shop::{Shop, two_of};

#[tokio::test]
async fn a_charge_that_comes_after_its_cancellation_is_refused() {
    let shop = Shop::alone();
    shop.fault("payments", "slow", 1.0, 14_000).await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let order = two_of(&format!("p{}", 1 + number));
        ids.push(shop.accepted(&number.to_string(), &order).await);
    }
    // Long enough for a charge to be given up.
    tokio::time::sleep(Duration::from_secs(4)).await;
    shop.fault("payments", "ok", 1.0, 0).await;
    for id in &ids {
        let order = shop.settled(id).await;
        assert!(
            order["status"] == "confirmed" || order["reason"] == "PAYMENT_UNAVAILABLE",
            "{order}"
        );
    }
    // Until the last late charge has come.
    tokio::time::sleep(Duration::from_secs(15)).await;
    shop.assert_invariants(1000).await;
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

/// What the breaker keeps from the payments is no attempt, and gives no order up.
#[tokio::test]
async fn an_open_breaker_cancels_no_order_and_all_are_settled_soon_after_it_closes() {
    let modes = ["error", "hang", "lost"];
    let payments = modes.map(|mode| thirty_orders_through("payments", mode, 20));
    let shipments = modes.map(|mode| thirty_orders_through("shipments", mode, 30));
    tokio::join!(join_all(payments), join_all(shipments));
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
