//! One product is read through a cache: what it says of it, and how long another instance may overlook a change.

use std::time::{Duration, Instant};

use buttress_testkit::{
    eventually,
    proxy::{Proxy, Way},
    redis::Server,
};
use serde_json::json;

use crate::shop::{Database, Shop, data, on_each};

const SECOND: Duration = Duration::from_secs(1);

/// The price that is shown, and how it came.
async fn price(shop: &Shop) -> (i64, String) {
    let response = shop.get("/products/p1").send().await.unwrap();
    let status = response.headers()["cache-status"].to_str().unwrap().into();
    (data(response).await["price"].as_i64().unwrap(), status)
}

async fn change(shop: &Shop, price: i64) -> Instant {
    let change = shop.patch("/products/p1").json(&json!({ "price": price }));
    assert_eq!(change.send().await.unwrap().status(), 200);
    Instant::now()
}

/// Changes here and reads there: never the old price once the bound is over.
async fn is_seen_within(bound: Duration, here: &Shop, there: &Shop, new: i64) {
    price(there).await;
    let changed = change(here, new).await;
    assert_eq!(price(here).await.0, new, "where it was changed, at once");
    loop {
        let asked = changed.elapsed();
        let (seen, status) = price(there).await;
        if seen == new {
            return;
        }
        assert!(asked <= bound, "{seen} after {asked:?}: {status}");
    }
}

#[tokio::test]
async fn a_product_is_loaded_once_and_served_from_then_on() {
    let shop = Shop::alone();
    assert_eq!(price(&shop).await.1, "storefront; fwd=miss");
    let (old, status) = price(&shop).await;
    assert_eq!(status, "storefront; hit; ttl=0");
    change(&shop, old + 1).await;
    assert_eq!(price(&shop).await, (old + 1, "storefront; fwd=miss".into()));
    // What it does not have to be told lives less than a second.
    eventually("it is loaded anew", 10 * SECOND, async || {
        (price(&shop).await.1 == "storefront; fwd=stale").then_some(())
    })
    .await;
    // A change that is refused changes nothing.
    let refused = shop.patch("/products/p1").header("if-match", "\"77\"");
    let refused = refused.json(&json!({ "price": 1 })).send().await.unwrap();
    assert_eq!(refused.status(), 412);
    assert_eq!(price(&shop).await.0, old + 1);
}

/// With Redis it is the contract's client that looks.
#[tokio::test]
async fn without_redis_a_change_is_overlooked_for_no_longer_than_a_second() {
    on_each(|database| async move {
        let shops = [(); 2].map(|()| Shop::start(&database));
        let [a, b] = &shops;
        for round in 0..3 {
            is_seen_within(SECOND, a, b, 1000 + round).await;
            is_seen_within(SECOND, b, a, 2000 + round).await;
        }
        drop(shops);
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn while_redis_is_away_products_are_read_and_changed() {
    let Ok(server) = Server::start() else {
        return;
    };
    let database = Database::sqlite();
    let (proxy, url) = Proxy::before(&server.url()).await.unwrap();
    let start = |url: &str| Shop::start_with(&database, &["--redis-url", url]);
    let (a, b) = (start(&url), start(&server.url()));
    is_seen_within(SECOND, &a, &b, 100).await;
    // Who reads cannot hear, who writes cannot say.
    proxy.black_hole(Way::ToClient);
    is_seen_within(SECOND, &b, &a, 200).await;
    is_seen_within(10 * SECOND, &a, &b, 300).await;
    proxy.heal().await.unwrap();
    server.kill();
    is_seen_within(10 * SECOND, &a, &b, 400).await;
    is_seen_within(SECOND, &b, &a, 500).await;
    server.restart().unwrap();
    let back = async || {
        price(&b)
            .await
            .1
            .starts_with("storefront; hit")
            .then_some(())
    };
    eventually("it serves what it has", 30 * SECOND, back).await;
    let told = async || {
        price(&a)
            .await
            .1
            .starts_with("storefront; hit")
            .then_some(())
    };
    eventually("so does the other", 30 * SECOND, told).await;
    is_seen_within(10 * SECOND, &a, &b, 600).await;
    database.close().await;
}
