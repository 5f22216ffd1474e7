//! One product is read through a cache: what it says of it, and how long another instance may overlook a change.

use std::time::{Duration, Instant};

use buttress_testkit::{
    eventually,
    proxy::{Proxy, Way},
    redis::{self, Server},
};
use serde_json::json;

use crate::shop::{Database, Shop, data};

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

fn redis_url() -> Option<String> {
    // Its place in the tests' list of what was left out comes with it.
    redis::fresh_prefix().map(|prefix| prefix.url().to_owned())
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

#[tokio::test]
async fn however_many_ask_at_once_it_is_loaded_once() {
    let shop = Shop::alone();
    let asks = (0..40).map(|_| price(&shop));
    let answers = futures_util::future::join_all(asks).await;
    let loads = answers.iter().filter(|it| it.1 == "storefront; fwd=miss");
    assert_eq!(loads.count(), 1, "{answers:?}");
    for (_, status) in answers {
        let known = ["storefront; fwd=miss", "storefront; fwd=miss; collapsed"];
        let is_hit = status.starts_with("storefront; hit; ttl=");
        assert!(known.contains(&&*status) || is_hit, "{status}");
    }
}

#[tokio::test]
async fn a_change_is_overlooked_by_no_other_instance_for_longer_than_a_second() {
    for database in Database::each().await {
        let redis = redis_url();
        let options: Vec<&str> = match &redis {
            Some(url) => vec!["--redis-url", url],
            None => Vec::new(),
        };
        let shared = [&options[..], &options, &[]].map(|it| Shop::start_with(&database, it));
        let [a, b, alone] = &shared;
        for round in 0..4 {
            is_seen_within(SECOND, a, b, 1000 + round).await;
            is_seen_within(SECOND, b, alone, 2000 + round).await;
        }
        if redis.is_some() {
            let hears = async || {
                price(b)
                    .await
                    .1
                    .starts_with("storefront; hit")
                    .then_some(())
            };
            eventually("it serves what it has", 10 * SECOND, hears).await;
        }
        drop(shared);
        database.close().await;
    }
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
