//! Shipping quotes, whatever the carrier does.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::shop::{Shop, data, error};

const QUOTE: &str = "/shipping-quotes?country=SE&quantity=3";

#[tokio::test]
async fn a_quote_says_what_was_asked_and_what_it_costs() {
    let shop = Shop::alone();
    let quote = data(shop.get(QUOTE).send().await.unwrap()).await;
    assert_eq!(
        (&quote["country"], &quote["quantity"]),
        (&json!("SE"), &json!(3))
    );
    assert!(quote["price"].as_i64().unwrap() > 0 && quote["carrier"].is_string());
}

#[tokio::test]
async fn a_quote_is_answered_within_three_seconds_whatever_the_carrier_does() {
    let shop = Shop::alone();
    for (mode, status, code) in [
        ("error", 502, "UPSTREAM_FAILED"),
        ("lost", 502, "UPSTREAM_FAILED"),
        ("hang", 504, "UPSTREAM_TIMEOUT"),
        ("slow", 504, "UPSTREAM_TIMEOUT"),
    ] {
        shop.fault("carrier", mode, 1.0, 30_000).await;
        let asked = Instant::now();
        let response = shop.get(QUOTE).send().await.unwrap();
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "{mode}: {:?}",
            asked.elapsed()
        );
        error(response, status, code).await;
    }
    shop.fault("carrier", "ok", 1.0, 0).await;
    assert_eq!(shop.get(QUOTE).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn with_a_fifth_of_the_carriers_calls_failing_nine_quotes_in_ten_succeed() {
    let shop = Shop::alone();
    shop.fault("carrier", "error", 0.2, 0).await;
    let mut succeeded = 0;
    for _ in 0..100 {
        succeeded += usize::from(shop.get(QUOTE).send().await.unwrap().status() == 200);
    }
    assert!(succeeded >= 90, "{succeeded} of 100");
}
