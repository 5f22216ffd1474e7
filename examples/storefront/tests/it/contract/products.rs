//! `/products`: pages, tags, what the cache says of itself, and changes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    Checks, checks,
    client::{Client, PROBLEM, keys},
};

/// Longer than any other instance may overlook a change.
const SECOND: Duration = Duration::from_secs(1);

/// What only a fresh shop has, and one with time for it. Runs before everything else.
pub(super) fn at_first(shop: &Client) -> Checks<'_> {
    checks![shop;
        the_catalogue_holds_forty_products,
        nothing_is_loaded_before_it_is_asked_for_and_then_once,
        a_change_is_seen_here_at_once_and_elsewhere_within_a_second,
    ]
}

pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop;
        pages_have_limits_and_are_ordered_by_id,
        a_product_has_no_stock_and_a_tag,
        who_has_the_version_is_not_sent_it,
        the_version_counts_changes_of_name_and_price_only,
        if_match_changes_only_what_it_names,
        of_changes_that_name_one_version_one_is_made,
        a_change_that_breaks_a_rule_changes_nothing,
        a_page_is_never_cached,
    ]
}

async fn the_catalogue_holds_forty_products(shop: &Client) {
    for instance in shop.each() {
        let products = instance.all("products", 100).await;
        let mut ids: Vec<_> = (1..=40).map(|number| format!("p{number}")).collect();
        ids.sort_unstable();
        let seen: Vec<_> = products
            .iter()
            .map(|product| product["id"].as_str().unwrap())
            .collect();
        assert_eq!(seen, ids, "{}", shop.name);
        for product in &products {
            assert_eq!(
                keys(product),
                ["id", "name", "price", "stock", "version"],
                "{product}"
            );
            assert_eq!(
                (&product["stock"], &product["version"]),
                (&json!(1000), &json!(1)),
                "{product}"
            );
            assert!(
                product["price"].as_i64().is_some_and(|price| price > 0),
                "{product}"
            );
            assert!(
                product["name"]
                    .as_str()
                    .is_some_and(|name| !name.is_empty()),
                "{product}"
            );
        }
    }
    assert!(shop.all("orders", 100).await.is_empty());
    assert!(shop.events().await.is_empty());
    assert!(shop.charges().await.is_empty());
}

async fn nothing_is_loaded_before_it_is_asked_for_and_then_once(shop: &Client) {
    let first = shop.get("/products/p33").await;
    assert_eq!(
        first.header("cache-status"),
        "storefront; fwd=miss",
        "{first}"
    );
    let one = shop.at(0);
    let answers = join_all((0..30).map(|_| one.get("/products/p34"))).await;
    let mut loads = 0;
    for answer in answers {
        answer.is(200);
        match answer.header("cache-status") {
            "storefront; fwd=miss" => loads += 1,
            "storefront; fwd=miss; collapsed" => {}
            hit => assert!(
                is_cache_status(hit) && hit.starts_with("storefront; hit"),
                "{answer}: {hit}"
            ),
        }
    }
    assert_eq!(loads, 1, "{}", shop.name);
}

/// As RFC 9211 and the contract have it.
fn is_cache_status(status: &str) -> bool {
    let Some(rest) = status.strip_prefix("storefront; ") else {
        return false;
    };
    let ttl = rest.strip_prefix("hit; ttl=");
    ttl.map_or(
        ["fwd=miss", "fwd=stale", "fwd=miss; collapsed"].contains(&rest),
        |ttl| ttl.parse::<i64>().is_ok(),
    )
}

async fn pages_have_limits_and_are_ordered_by_id(shop: &Client) {
    let page = shop.get("/products").await;
    assert_eq!(page.data().as_array().unwrap().len(), 20, "{page}");
    assert_eq!(keys(page.meta()), ["next_cursor"], "{page}");
    assert!(page.meta()["next_cursor"].is_string(), "{page}");
    for limit in [1, 7, 20, 40, 100] {
        let all = shop.all("products", limit).await;
        let ids: Vec<_> = all
            .iter()
            .map(|product| product["id"].as_str().unwrap())
            .collect();
        assert!(
            ids.len() == 40 && ids.is_sorted_by(|one, next| one < next),
            "{ids:?}"
        );
    }
    // Just as many as there are is the last page.
    assert!(shop.get("/products?limit=40").await.meta()["next_cursor"].is_null());
}

async fn a_product_has_no_stock_and_a_tag(shop: &Client) {
    for instance in shop.each() {
        let answer = instance.get("/products/p12").await;
        answer.is(200);
        assert_eq!(
            keys(answer.data()),
            ["id", "name", "price", "version"],
            "{answer}"
        );
        assert_eq!(
            answer.header("etag"),
            format!("\"{}\"", answer.data()["version"]),
            "{answer}"
        );
        assert!(is_cache_status(answer.header("cache-status")), "{answer}");
    }
    for _ in 0..20 {
        let answer = shop.get("/products/p12").await;
        assert!(is_cache_status(answer.header("cache-status")), "{answer}");
    }
}

async fn who_has_the_version_is_not_sent_it(shop: &Client) {
    for (theirs, status) in [
        ("\"1\"", 304),
        ("W/\"1\"", 304),
        ("\"7\", \"1\"", 304),
        ("\"7\",\"1\",\"8\"", 304),
        ("*", 304),
        ("\"2\"", 200),
        ("1", 200),
        ("\"11\", \"2\"", 200),
    ] {
        let request = shop
            .request("GET", "/products/p13")
            .header("if-none-match", theirs);
        let answer = shop.send(request).await;
        assert_eq!(answer.status, status, "{theirs}: {answer}");
        assert_eq!(answer.header("etag"), "\"1\"", "{theirs}: {answer}");
        assert!(is_cache_status(answer.header("cache-status")), "{answer}");
    }
    let none = shop
        .request("GET", "/products/p99")
        .header("if-none-match", "*");
    shop.send(none).await.refused(404, "PRODUCT_NOT_FOUND");
}

async fn the_version_counts_changes_of_name_and_price_only(shop: &Client) {
    // The same name and price are no change.
    for (change, version) in [
        (json!({}), 1),
        (json!({ "stock": 7 }), 1),
        (json!({ "price": 4200 }), 2),
        (json!({ "price": 4200 }), 2),
        (json!({ "price": 4200, "stock": 8 }), 2),
        (json!({ "name": "Lamp", "price": 0, "stock": 0 }), 3),
        (json!({ "name": "Lamp" }), 3),
        (json!({ "stock": 1000 }), 3),
    ] {
        let answer = shop.patch("/products/p35", &change).await;
        answer.is(200);
        assert_eq!(answer.header("etag"), format!("\"{version}\""), "{answer}");
        assert_eq!(
            keys(answer.data()),
            ["id", "name", "price", "stock", "version"],
            "{answer}"
        );
        assert_eq!(answer.data()["version"], version, "{answer}");
        for (name, value) in change.as_object().unwrap() {
            assert_eq!(answer.data()[name], *value, "{answer}");
        }
    }
}

async fn if_match_changes_only_what_it_names(shop: &Client) {
    let change = async |tag: &str, price: i64| {
        let request = shop
            .request("PATCH", "/products/p36")
            .header("content-type", "application/json");
        let request = request
            .header("if-match", tag)
            .body(json!({ "price": price }).to_string());
        shop.send(request).await
    };
    // A weak tag matches nothing here (RFC 9110, 13.1.1), nor does what is no tag.
    for tag in ["\"2\"", "W/\"1\"", "nonsense", "1", "\"2\", \"3\""] {
        change(tag, 5).await.refused(412, "VERSION_CONFLICT");
    }
    assert_eq!(change("\"9\", \"1\"", 5).await.header("etag"), "\"2\"");
    change("\"1\"", 6).await.refused(412, "VERSION_CONFLICT");
    change("*", 6).await.is(200);
    assert_eq!(change("\"3\"", 7).await.header("etag"), "\"4\"");
    let none = shop
        .request("PATCH", "/products/p99")
        .header("content-type", "application/json");
    let none = none.header("if-match", "*").body("{}");
    shop.send(none).await.refused(404, "PRODUCT_NOT_FOUND");
}

async fn of_changes_that_name_one_version_one_is_made(shop: &Client) {
    let changes = (0..8).map(|number| {
        let request = shop
            .request("PATCH", "/products/p37")
            .header("content-type", "application/json");
        let request = request.header("if-match", "\"1\"");
        shop.send(request.body(json!({ "price": 100 + number }).to_string()))
    });
    let mut made = 0;
    for answer in join_all(changes).await {
        if answer.status == 200 {
            made += 1;
        } else {
            answer.refused(412, "VERSION_CONFLICT");
        }
    }
    assert_eq!(made, 1, "{}", shop.name);
}

async fn a_change_that_breaks_a_rule_changes_nothing(shop: &Client) {
    for (change, field) in [
        (json!({ "price": -1 }), "price"),
        (json!({ "price": "7" }), "price"),
        (json!({ "price": null }), "price"),
        (json!({ "price": 1.5 }), "price"),
        (json!({ "price": true }), "price"),
        (json!({ "stock": -1 }), "stock"),
        (json!({ "stock": 1.5 }), "stock"),
        (json!({ "stock": u64::MAX }), "stock"),
        (json!({ "stock": 1, "price": 1e300 }), "price"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": 7 }), "name"),
        (json!({ "name": null, "price": 7 }), "name"),
        (json!({ "name": "a\u{0}b" }), "name"),
    ] {
        let answer = shop.patch("/products/p38", &change).await;
        assert_eq!(answer.fields(), [field], "{change}: {answer}");
    }
    for body in ["[]", "null", "7"] {
        let answer = shop.send_json("PATCH", "/products/p38", body).await;
        answer.refused(422, "VALIDATION_FAILED");
    }
    let problem = shop
        .request("PATCH", "/products/p38")
        .header("content-type", "application/json");
    let problem = problem.header("accept", PROBLEM).body("{\"price\": -1}");
    shop.send(problem).await.refused(422, "VALIDATION_FAILED");
    let page = shop.all("products", 100).await;
    let product = page.iter().find(|product| product["id"] == "p38").unwrap();
    assert_eq!(
        (&product["version"], &product["stock"]),
        (&json!(1), &json!(1000)),
        "{product}"
    );
}

async fn a_change_is_seen_here_at_once_and_elsewhere_within_a_second(shop: &Client) {
    let price = async |shop: &Client| {
        let answer = shop.get("/products/p39").await;
        answer.is(200);
        answer.data()["price"].clone()
    };
    for (round, here) in (5000..).zip(shop.each().chain(shop.each())) {
        for instance in shop.each() {
            price(&instance).await;
        }
        here.patch("/products/p39", &json!({ "price": round }))
            .await
            .is(200);
        let changed = Instant::now();
        assert_eq!(price(&here).await, round, "{}", shop.name);
        for there in shop.each() {
            loop {
                let asked = changed.elapsed();
                let seen = price(&there).await;
                if seen == round {
                    break;
                }
                assert!(asked <= SECOND, "{}: {seen} after {asked:?}", shop.name);
            }
        }
    }
}

async fn a_page_is_never_cached(shop: &Client) {
    for stock in 10..16 {
        shop.patch("/products/p40", &json!({ "stock": stock }))
            .await
            .is(200);
        let page = shop.get("/products?limit=100").await;
        let page = page.data().as_array().unwrap().clone();
        let product: &Value = page.iter().find(|product| product["id"] == "p40").unwrap();
        assert_eq!(product["stock"], stock, "{}", shop.name);
    }
    shop.stocked("p40", 1000).await;
}
