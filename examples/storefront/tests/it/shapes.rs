//! What every answer has, and every row of the error table that exists.

use serde_json::{Value, json};

use crate::shop::{Database, Shop, data, error, two_of};

#[tokio::test]
async fn the_callers_request_id_comes_back_and_a_bad_one_is_replaced() {
    let shop = Shop::alone();
    for path in ["/healthz", "/nowhere"] {
        let response = shop
            .get(path)
            .header("x-request-id", "Ab-1._z")
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["x-request-id"], "Ab-1._z");
        for bad in ["", "a b", "ö", &"x".repeat(65)] {
            let response = shop
                .get(path)
                .header("x-request-id", bad.as_bytes())
                .send()
                .await
                .unwrap();
            let id = response.headers()["x-request-id"].to_str().unwrap();
            assert!(!id.is_empty() && id != bad && id.len() <= 64, "{id}");
        }
    }
}

#[tokio::test]
async fn an_error_is_problem_json_for_those_who_prefer_it() {
    let shop = Shop::alone();
    for (accept, content_type) in [
        ("application/problem+json", "application/problem+json"),
        (
            "application/problem+json, application/json;q=0.9",
            "application/problem+json",
        ),
        (
            "application/json, application/problem+json;q=0.9",
            "application/json",
        ),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
    ] {
        let response = shop
            .get("/products/none")
            .header("accept", accept)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], content_type, "{accept}");
        assert_eq!(
            response.headers()["vary"].to_str().unwrap().to_lowercase(),
            "accept"
        );
        let body: Value = response.json().await.unwrap();
        let code = if content_type.contains("problem") {
            &body["code"]
        } else {
            &body["error"]["code"]
        };
        assert_eq!(code, "PRODUCT_NOT_FOUND");
        if content_type.contains("problem") {
            assert_eq!(
                (&body["status"], &body["title"]),
                (&json!(404), &json!("Not Found"))
            );
        }
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_get_the_envelope() {
    let database = Database::sqlite();
    let shop = Shop::start_with(&database, &[]);
    for path in [
        "/",
        "/nowhere",
        "/orders/a/b",
        "/products/",
        "/faults",
        "/%ff",
        "/..%2f..%2fetc",
    ] {
        error(shop.get(path).send().await.unwrap(), 404, "ROUTE_NOT_FOUND").await;
    }
    let faults = shop.post("/faults").json(&json!({})).send().await.unwrap();
    error(faults, 404, "ROUTE_NOT_FOUND").await;
    for (method, path, allowed) in [
        ("DELETE", "/orders", "POST"),
        ("PUT", "/products/p1", "PATCH"),
        ("POST", "/healthz", "GET"),
    ] {
        let response = shop.request(method, path).send().await.unwrap();
        let allow = response.headers()["allow"].to_str().unwrap().to_owned();
        assert!(allow.contains(allowed), "{method} {path}: {allow}");
        error(response, 405, "METHOD_NOT_ALLOWED").await;
    }
}

#[tokio::test]
async fn head_works_as_get_without_the_body() {
    let shop = Shop::alone();
    for path in ["/products/p1", "/healthz", "/nowhere", "/products/none"] {
        let get = shop.get(path).send().await.unwrap();
        let head = shop.request("HEAD", path).send().await.unwrap();
        assert_eq!(head.status(), get.status(), "{path}");
        assert_eq!(
            head.headers().get("content-length"),
            get.headers().get("content-length")
        );
        assert_eq!(
            head.headers().get("content-type"),
            get.headers().get("content-type")
        );
        assert!(head.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn every_refusal_of_an_order_has_its_row() {
    let shop = Shop::alone();
    let good = two_of("p1").to_string();
    let send = |key: Option<&str>, content_type: Option<&str>, body: &str| {
        let mut request = shop.post("/orders").body(body.to_owned());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        async { request.send().await.unwrap() }
    };
    let json = Some("application/json");
    let huge = format!("{{\"customer\": \"{}\"}}", "x".repeat(70_000));
    // In the order in which they are checked: each is refused for its own row, whatever follows.
    error(send(None, None, &huge).await, 413, "PAYLOAD_TOO_LARGE").await;
    error(send(None, None, "{").await, 415, "UNSUPPORTED_MEDIA_TYPE").await;
    error(
        send(None, Some("text/plain"), &good).await,
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    )
    .await;
    error(send(None, json, "{").await, 400, "IDEMPOTENCY_KEY_MISSING").await;
    for key in ["", "\"\"", &"k".repeat(256), "schl\u{fc}ssel"] {
        error(
            send(Some(key), json, "{").await,
            400,
            "IDEMPOTENCY_KEY_INVALID",
        )
        .await;
    }
    for body in ["", "{", "{\"customer\": \"\\", "[1] 2", &"[".repeat(30_000)] {
        error(send(Some("k"), json, body).await, 400, "MALFORMED_REQUEST").await;
    }
    for body in ["null", "[]", "7", "{}", "{\"customer\": 7}"] {
        error(send(Some("k"), json, body).await, 422, "VALIDATION_FAILED").await;
    }
    let first = send(Some("k"), json, &good).await;
    assert_eq!(first.status(), 202, "none of the refusals took the key");
    let other = two_of("p2").to_string();
    error(
        send(Some("k"), json, &other).await,
        422,
        "IDEMPOTENCY_KEY_REUSED",
    )
    .await;
    let invalid = two_of("p999").to_string();
    error(
        send(Some("k"), json, &invalid).await,
        422,
        "VALIDATION_FAILED",
    )
    .await;
}

#[tokio::test]
async fn details_map_each_fields_path_to_what_is_wrong_with_it() {
    let shop = Shop::alone();
    let body = json!({
        "customer": "",
        "items": [{ "product_id": "p1", "quantity": 0 }, { "product_id": "no", "quantity": 101 }],
        "payment_method": "pm_ok",
    });
    let told = error(shop.order("k", &body).await, 422, "VALIDATION_FAILED").await;
    let details = told["details"].as_object().unwrap();
    let paths: Vec<_> = details.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        ["customer", "items[0].quantity", "items[1].quantity"]
    );
    assert!(details.values().all(Value::is_string), "{details:?}");

    for (change, path) in [
        (json!({ "customer": 7 }), "customer"),
        (json!({ "customer": "x".repeat(101) }), "customer"),
        (json!({ "customer": "nul\u{0}" }), "customer"),
        (json!({ "items": [] }), "items"),
        (
            json!({ "items": vec![json!({ "product_id": "p1", "quantity": 1 }); 51] }),
            "items",
        ),
        (
            json!({ "items": [{ "product_id": "p1", "quantity": 1.5 }] }),
            "items[0].quantity",
        ),
        (
            json!({ "items": [{ "product_id": "p41", "quantity": 1 }] }),
            "items[0].product_id",
        ),
        (
            json!({ "items": [{ "product_id": "\u{0}", "quantity": 1 }] }),
            "items[0].product_id",
        ),
        (json!({ "payment_method": "cash" }), "payment_method"),
        (json!({ "payment_method": null }), "payment_method"),
    ] {
        let mut body = two_of("p1");
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let told = error(shop.order("k", &body).await, 422, "VALIDATION_FAILED").await;
        let paths: Vec<_> = told["details"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(paths, [path], "{told}");
    }
    assert!(shop.all("orders").await.is_empty());
}

#[tokio::test]
async fn parameters_that_cannot_be_read_are_malformed() {
    let shop = Shop::alone();
    for path in [
        "/products?limit=0",
        "/products?limit=101",
        "/products?limit=ten",
        "/products?limit=",
        "/products?cursor=p1",
        "/orders?cursor=",
        "/orders?limit=-1",
        "/shipping-quotes",
        "/shipping-quotes?country=SE",
        "/shipping-quotes?country=Sweden&quantity=1",
        "/shipping-quotes?country=SE&quantity=0",
        "/events?after=-1",
        "/events?after=x",
        "/events?limit=0",
        "/events?limit=1001",
        "/ledger?after=x",
        "/ledger?limit=0",
    ] {
        error(
            shop.get(path).send().await.unwrap(),
            400,
            "MALFORMED_REQUEST",
        )
        .await;
    }
    let page = shop.read("/products?limit=1").await;
    let cursor = page["meta"]["next_cursor"].as_str().unwrap();
    let other = shop
        .get(&format!("/orders?cursor={cursor}"))
        .send()
        .await
        .unwrap();
    error(other, 400, "MALFORMED_REQUEST").await;
}

#[tokio::test]
async fn health_and_readiness_answer_in_the_envelope() {
    let shop = Shop::alone();
    for path in ["/healthz", "/readyz"] {
        let response = shop.get(path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(data(response).await.is_object());
    }
}
