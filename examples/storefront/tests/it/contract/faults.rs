//! What customers see while the services behind the shop fail, in each way they can.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::json;

use super::{
    Checks, checks,
    client::{Answer, Client, two_of},
    told::all_are_told,
};

const QUOTE: &str = "/shipping-quotes?country=SE&quantity=3";

/// The carrier knows nothing of orders, nor they of it.
pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop; quotes_in_each_mode, orders_in_each_mode]
}

async fn quotes_in_each_mode(shop: &Client) {
    // Faults and breakers are an instance's own.
    let shop = &shop.at(0);
    // It waits, and then works.
    shop.fault("carrier", "slow", 1.0, 100).await;
    quote(shop).await.is(200);
    for (mode, status, code) in [
        ("error", 502, "UPSTREAM_FAILED"),
        ("lost", 502, "UPSTREAM_FAILED"),
        ("hang", 504, "UPSTREAM_TIMEOUT"),
        ("slow", 504, "UPSTREAM_TIMEOUT"),
    ] {
        shop.fault("carrier", mode, 1.0, 60_000).await;
        quote(shop).await.refused(status, code);
        // One that succeeds, so that no mode opens the breaker.
        shop.fault("carrier", "ok", 1.0, 0).await;
        quote(shop).await.is(200);
    }
    a_fifth_fails_and_nine_in_ten_succeed(shop).await;
    it_opens_after_ten_failures_and_closes_by_itself(shop).await;
}

/// Asks once, and is answered in time whatever the carrier does: within three seconds of the contract's, and what a
/// loaded machine takes.
async fn quote(shop: &Client) -> Answer {
    let asked = Instant::now();
    let answer = shop.get(QUOTE).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: {answer}");
    if answer.status == 503 {
        answer.refused(503, "CIRCUIT_OPEN");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!(wait <= 10, "{answer}: {wait}");
    }
    answer
}

async fn a_fifth_fails_and_nine_in_ten_succeed(shop: &Client) {
    const QUOTES: usize = 80;
    shop.fault("carrier", "error", 0.2, 0).await;
    let answers = stream::iter(0..QUOTES).map(|_| quote(shop));
    let answers: Vec<_> = answers.buffer_unordered(4).collect().await;
    let good = answers.iter().filter(|answer| answer.status == 200);
    assert!(good.count() * 10 >= QUOTES * 9, "{}", shop.name);
    assert!(
        answers.iter().all(|answer| answer.status != 503),
        "{}: the breaker opened",
        shop.name
    );
    shop.fault("carrier", "ok", 1.0, 0).await;
    quote(shop).await.is(200);
}

async fn it_opens_after_ten_failures_and_closes_by_itself(shop: &Client) {
    shop.fault("carrier", "error", 1.0, 0).await;
    let mut failed = 0;
    while quote(shop).await.status != 503 {
        failed += 1;
        assert!(
            failed <= 10,
            "{}: more than ten failed, and it is closed",
            shop.name
        );
    }
    shop.fault("carrier", "ok", 1.0, 0).await;
    let closed = async || (quote(shop).await.status == 200).then_some(());
    shop.until("it closes", Duration::from_secs(20), closed)
        .await;
}

async fn orders_in_each_mode(shop: &Client) {
    let mut ids = Vec::new();
    for (round, mode) in ["error", "lost", "hang", "slow"].into_iter().enumerate() {
        let products: Vec<_> = (0..5).map(|number| format!("p{}", 18 + number)).collect();
        for target in ["payments", "shipments", "subscriber"] {
            shop.fault(target, mode, [0.6, 1.0][round % 2], 2500).await;
        }
        let customer = shop.customer();
        let placing = products.iter().map(|product| async {
            let asked = Instant::now();
            let id = customer.placed(product, &two_of(product)).await;
            let took = asked.elapsed();
            assert!(
                took < Duration::from_secs(10),
                "{}: {mode}: {took:?}",
                shop.name
            );
            id
        });
        ids.extend(join_all(placing).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for target in ["payments", "shipments", "subscriber"] {
        shop.fault(target, "ok", 1.0, 0).await;
    }
    for id in &ids {
        let order = shop.settled(id).await;
        let given_up = order["status"] == "cancelled" && order["reason"] == "PAYMENT_UNAVAILABLE";
        assert!(
            order["status"] == "confirmed" || given_up,
            "{}: {order}",
            shop.name
        );
    }
    all_are_told(shop, &ids).await;
    // A price that nobody answered for is given up after a while, and not before the payments have heard of it.
    shop.fault("payments", "lost", 1.0, 0).await;
    let id = shop.customer().placed("k", &two_of("p23")).await;
    let refunded = async || {
        let charges = shop.charges().await;
        let charge = charges
            .into_iter()
            .find(|charge| charge["order_id"] == id.as_str())?;
        (charge["refunded"] == charge["amount"]).then_some(())
    };
    shop.until("it is given up", Duration::from_secs(60), refunded)
        .await;
    shop.fault("payments", "ok", 1.0, 0).await;
    let settled = shop.settled(&id).await;
    assert_eq!(
        (&settled["status"], &settled["reason"]),
        (&json!("cancelled"), &json!("PAYMENT_UNAVAILABLE")),
        "{settled}"
    );
}
