//! Placing orders, once, and what becomes of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::shop::{Database, Shop, error, two_of};

#[tokio::test]
async fn an_accepted_order_is_confirmed_charged_once_and_taken_from_stock() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        let response = shop.order("first", &two_of("p3")).await;
        assert_eq!(response.status(), 202);
        assert!(!response.headers().contains_key("idempotency-replayed"));
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let accepted: Value = response.json().await.unwrap();
        let order = &accepted["data"];
        assert_eq!(
            location,
            format!("/orders/{}", order["id"].as_str().unwrap())
        );
        assert_eq!(
            (&order["status"], &order["reason"]),
            (&json!("pending"), &Value::Null)
        );
        assert_eq!(
            order["total"].as_i64(),
            Some(2 * order["items"][0]["price"].as_i64().unwrap())
        );
        let created: jiff::Timestamp = order["created_at"].as_str().unwrap().parse().unwrap();
        assert!(jiff::Timestamp::now().duration_since(created).as_secs() < 60);

        let settled = shop.settled(order["id"].as_str().unwrap()).await;
        assert_eq!(settled["status"], "confirmed");
        let steps: Vec<_> = settled["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| &step["state"])
            .collect();
        assert_eq!(steps, ["done"; 4]);
        shop.assert_invariants(1000).await;
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn a_repeated_order_is_one_order_however_concurrent_and_its_answer_the_same_to_the_byte() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        let order = two_of("p4");
        let sends = (0..20).map(|_| shop.order("again", &order));
        let mut bodies = Vec::new();
        let mut replayed = 0;
        for response in futures_util::future::join_all(sends).await {
            assert_eq!(response.status(), 202);
            replayed += usize::from(response.headers().contains_key("idempotency-replayed"));
            let location = response.headers()["location"].clone();
            bodies.push((location, response.bytes().await.unwrap()));
        }
        assert_eq!(
            replayed, 19,
            "the first answer, and only it, is not a replay"
        );
        assert!(bodies.iter().all(|body| *body == bodies[0]));
        shop.settled(
            bodies[0]
                .0
                .to_str()
                .unwrap()
                .strip_prefix("/orders/")
                .unwrap(),
        )
        .await;
        let late = shop.order("again", &order).await;
        assert_eq!(late.headers()["idempotency-replayed"], "true");
        assert_eq!(
            late.bytes().await.unwrap(),
            bodies[0].1,
            "as it was accepted, not as it is now"
        );
        assert_eq!(shop.all("orders").await.len(), 1);
        shop.assert_invariants(1000).await;
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn a_body_is_the_same_when_it_is_the_same_json() {
    let shop = Shop::alone();
    let first =
        r#"{"customer":"Ada","payment_method":"pm_ok","items":[{"product_id":"p1","quantity":2}]}"#;
    let same = "{ \"items\": [ {\"quantity\": 2, \"product_id\": \"p\\u0031\"} ],\n \"payment_method\": \"pm_ok\", \"customer\": \"Ada\" }";
    let send = |key: &'static str, body: &'static str| {
        let request = shop.post("/orders").header("idempotency-key", key);
        request
            .header("content-type", "application/json; charset=utf-8")
            .body(body)
            .send()
    };
    assert_eq!(send("k", first).await.unwrap().status(), 202);
    let again = send("\"k\"", same).await.unwrap();
    assert_eq!(
        again.headers()["idempotency-replayed"],
        "true",
        "quoted and bare are one key"
    );
}

#[tokio::test]
async fn keys_belong_to_a_client() {
    let shop = Shop::alone();
    let place = |client: &'static str, product: &'static str| {
        let request = shop.post("/orders").header("idempotency-key", "shared");
        request
            .header("x-api-key", client)
            .json(&two_of(product))
            .send()
    };
    assert_eq!(place("one", "p1").await.unwrap().status(), 202);
    assert_eq!(place("two", "p2").await.unwrap().status(), 202);
    error(
        place("one", "p2").await.unwrap(),
        422,
        "IDEMPOTENCY_KEY_REUSED",
    )
    .await;
    assert_eq!(shop.all("orders").await.len(), 2);
}

#[tokio::test]
async fn a_declined_payment_cancels_the_order_and_puts_the_stock_back() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        let mut order = two_of("p5");
        order["payment_method"] = json!("pm_declined");
        let id = shop.accepted("k", &order).await;
        let settled = shop.settled(&id).await;
        assert_eq!(
            (&settled["status"], &settled["reason"]),
            (&json!("cancelled"), &json!("PAYMENT_DECLINED"))
        );
        let states: Vec<_> = settled["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| &step["state"])
            .collect();
        assert_eq!(states, ["undone", "failed", "pending", "pending"]);
        shop.assert_invariants(1000).await;
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn of_orders_for_the_last_piece_one_is_confirmed() {
    for database in Database::each().await {
        let shop = Shop::start(&database);
        for number in 1..=40 {
            let change = shop
                .patch(&format!("/products/p{number}"))
                .json(&json!({ "stock": 1 }));
            assert_eq!(change.send().await.unwrap().status(), 200);
        }
        let order = json!({
            "customer": "Ada", "payment_method": "pm_ok",
            "items": [{ "product_id": "p6", "quantity": 1 }, { "product_id": "p7", "quantity": 1 }],
        });
        let twice = json!({
            "customer": "Eve", "payment_method": "pm_ok",
            "items": [{ "product_id": "p8", "quantity": 1 }, { "product_id": "p8", "quantity": 1 }],
        });
        let mut ids = vec![shop.accepted("twice", &twice).await];
        for number in 0..5 {
            ids.push(shop.accepted(&format!("k{number}"), &order).await);
        }
        let mut confirmed = 0;
        for id in ids {
            let settled = shop.settled(&id).await;
            confirmed += usize::from(settled["status"] == "confirmed");
            assert!(
                settled["status"] == "confirmed" || settled["reason"] == "OUT_OF_STOCK",
                "{settled}"
            );
        }
        assert_eq!(confirmed, 1);
        shop.assert_invariants(1).await;
        drop(shop);
        database.close().await;
    }
}

#[tokio::test]
async fn orders_are_listed_newest_first_and_every_client_sees_them_all() {
    let shop = Shop::alone();
    let mut placed = Vec::new();
    for number in 0..7 {
        let request = shop
            .post("/orders")
            .header("idempotency-key", "k")
            .header("x-api-key", number.to_string());
        let response = request.json(&two_of("p1")).send().await.unwrap();
        placed.push(
            crate::shop::data(response).await["id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    placed.reverse();
    let mut seen = Vec::new();
    let mut path = "/orders?limit=3".to_owned();
    loop {
        let page = shop.read(&path).await;
        let ids = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|order| order["id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        assert!(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .all(|order| order["steps"].as_array().unwrap().len() == 4)
        );
        let Some(cursor) = page["meta"]["next_cursor"].as_str() else {
            break;
        };
        path = format!("/orders?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, placed);
    assert!(shop.read("/orders?limit=100").await["meta"]["next_cursor"].is_null());
    for id in ["none", "%00", "%27%20OR%201=1", &"x".repeat(500)] {
        error(
            shop.get(&format!("/orders/{id}")).send().await.unwrap(),
            404,
            "ORDER_NOT_FOUND",
        )
        .await;
    }
}

#[tokio::test]
async fn faults_behind_the_shop_never_make_it_answer_other_than_202() {
    let shop = Shop::alone();
    for mode in ["error", "hang", "lost", "slow"] {
        for target in ["payments", "carrier", "shipments"] {
            shop.fault(target, mode, 1.0, 60_000).await;
        }
        let order = two_of("p1");
        let sent = shop.order(mode, &order);
        let response = tokio::time::timeout(Duration::from_secs(5), sent)
            .await
            .unwrap();
        assert_eq!(response.status(), 202, "{mode}");
    }
}
