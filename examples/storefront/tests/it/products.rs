//! The catalogue: pages, entity tags, changes.

use serde_json::{Value, json};

use crate::shop::{Database, Shop, data, error};

#[tokio::test]
async fn the_catalogue_holds_forty_products_in_pages_ordered_by_id() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        let mut ids = Vec::new();
        let mut path = "/products".to_owned();
        loop {
            let page = shop.read(&path).await;
            for product in page["data"].as_array().unwrap() {
                assert_eq!(
                    (&product["stock"], &product["version"]),
                    (&json!(1000), &json!(1))
                );
                assert!(product["price"].is_i64() && product["name"].is_string());
                ids.push(product["id"].as_str().unwrap().to_owned());
            }
            let Some(cursor) = page["meta"]["next_cursor"].as_str() else {
                break;
            };
            path = format!("/products?cursor={cursor}");
        }
        let mut expected: Vec<_> = (1..=40).map(|number| format!("p{number}")).collect();
        expected.sort_unstable();
        assert_eq!(ids, expected);
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn a_product_has_an_entity_tag_and_is_not_sent_to_those_who_have_it() {
    let shop = Shop::alone();
    let response = shop.get("/products/p1").send().await.unwrap();
    assert_eq!(response.headers()["etag"], "\"1\"");
    assert_eq!(response.headers()["cache-status"], "storefront; fwd=miss");
    let product = data(response).await;
    assert!(
        product.get("stock").is_none(),
        "the stock changes too often to be cached"
    );
    for (theirs, status) in [
        ("\"1\"", 304),
        ("W/\"1\"", 304),
        ("\"7\", \"1\"", 304),
        ("*", 304),
        ("\"2\"", 200),
    ] {
        let response = shop
            .get("/products/p1")
            .header("if-none-match", theirs)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{theirs}");
        assert_eq!(response.headers()["etag"], "\"1\"");
        assert_eq!(response.bytes().await.unwrap().is_empty(), status == 304);
    }
    for id in ["p41", "P1", "%00", "%27", &"x".repeat(300)] {
        error(
            shop.get(&format!("/products/{id}")).send().await.unwrap(),
            404,
            "PRODUCT_NOT_FOUND",
        )
        .await;
    }
}

#[tokio::test]
async fn the_version_counts_changes_of_name_and_price_only() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        let change = |change: Value| shop.patch("/products/p2").json(&change).send();
        for (wanted, version) in [
            (json!({}), 1),
            (json!({ "stock": 7 }), 1),
            (json!({ "price": 4200 }), 2),
            (json!({ "price": 4200 }), 2),
            (json!({ "name": "Lamp", "price": 1, "stock": 0 }), 3),
        ] {
            let response = change(wanted.clone()).await.unwrap();
            assert_eq!(
                response.headers()["etag"],
                format!("\"{version}\""),
                "{wanted}"
            );
            let product = data(response).await;
            assert_eq!(product["version"], version);
            for (name, value) in wanted.as_object().unwrap() {
                assert_eq!(product[name], *value);
            }
        }
        let product = shop.read("/products/p2").await;
        assert_eq!(
            (&product["data"]["name"], &product["data"]["price"]),
            (&json!("Lamp"), &json!(1))
        );
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn if_match_changes_only_the_version_it_names() {
    let shop = Shop::alone();
    let change = |tag: &'static str, price: i64| {
        shop.patch("/products/p3")
            .header("if-match", tag)
            .json(&json!({ "price": price }))
            .send()
    };
    error(change("\"2\"", 5).await.unwrap(), 412, "VERSION_CONFLICT").await;
    error(change("W/\"1\"", 5).await.unwrap(), 412, "VERSION_CONFLICT").await;
    error(
        change("nonsense", 5).await.unwrap(),
        412,
        "VERSION_CONFLICT",
    )
    .await;
    assert_eq!(change("\"9\", \"1\"", 5).await.unwrap().status(), 200);
    error(change("\"1\"", 6).await.unwrap(), 412, "VERSION_CONFLICT").await;
    assert_eq!(change("*", 6).await.unwrap().status(), 200);
    let none = shop
        .patch("/products/p99")
        .header("if-match", "*")
        .json(&json!({ "price": 1 }));
    error(none.send().await.unwrap(), 404, "PRODUCT_NOT_FOUND").await;
}

#[tokio::test]
async fn of_concurrent_changes_that_name_one_version_one_is_made() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        let changes = (0..8).map(|number| {
            let change = json!({ "price": 100 + number });
            shop.patch("/products/p4")
                .header("if-match", "\"1\"")
                .json(&change)
                .send()
        });
        let made = futures_util::future::join_all(changes).await;
        let made = made
            .into_iter()
            .filter(|response| response.as_ref().unwrap().status() == 200);
        assert_eq!(made.count(), 1);
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn a_change_that_breaks_a_rule_changes_nothing() {
    let shop = Shop::alone();
    for (change, path) in [
        (json!({ "price": -1 }), "price"),
        (json!({ "price": "7" }), "price"),
        (json!({ "price": null }), "price"),
        (json!({ "stock": 1.5 }), "stock"),
        (json!({ "stock": 1, "price": 1e300 }), "price"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": "a\u{0}b" }), "name"),
    ] {
        let response = shop
            .patch("/products/p5")
            .json(&change)
            .send()
            .await
            .unwrap();
        let told = error(response, 422, "VALIDATION_FAILED").await;
        assert!(
            told["details"].as_object().unwrap().contains_key(path),
            "{change}: {told}"
        );
    }
    let product = shop.read("/products/p5").await;
    assert_eq!(product["data"]["version"], 1);
}
