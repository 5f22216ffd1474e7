//! `POST /orders`: every refusal, in the order in which they are looked for.

use serde_json::{Value, json};

use super::{
    Checks, checks,
    client::{Answer, Client, JSON, two_of, with},
};

pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop;
        each_is_refused_for_the_first_thing_that_is_wrong,
        bodies_may_be_64_kib_and_not_a_byte_more,
        a_body_is_sent_as_json,
        a_body_that_is_no_json_is_malformed,
        a_key_is_1_to_255_printable_characters,
        details_map_each_fields_path_to_what_is_wrong_with_it,
        at_its_bounds_an_order_is_taken,
        every_refusal_leaves_the_key_free,
    ]
}

async fn send(
    shop: &Client,
    key: Option<&str>,
    content_type: Option<&str>,
    body: impl Into<Vec<u8>>,
) -> Answer {
    let mut request = shop.customer().request("POST", "/orders").body(body.into());
    if let Some(key) = key {
        request = request.header("idempotency-key", key.as_bytes());
    }
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    shop.send(request).await
}

/// 413, 415, key, (rate), JSON, validation, key reused.
async fn each_is_refused_for_the_first_thing_that_is_wrong(shop: &Client) {
    let huge = "{".repeat(70_000);
    send(shop, None, None, huge.clone())
        .await
        .refused(413, "PAYLOAD_TOO_LARGE");
    send(shop, Some(""), Some("text/plain"), huge)
        .await
        .refused(413, "PAYLOAD_TOO_LARGE");
    send(shop, None, None, "{")
        .await
        .refused(415, "UNSUPPORTED_MEDIA_TYPE");
    send(shop, Some(""), Some("text/plain"), "{")
        .await
        .refused(415, "UNSUPPORTED_MEDIA_TYPE");
    send(shop, None, Some(JSON), "{")
        .await
        .refused(400, "IDEMPOTENCY_KEY_MISSING");
    send(shop, Some(""), Some(JSON), "{")
        .await
        .refused(400, "IDEMPOTENCY_KEY_INVALID");
    send(shop, Some("k"), Some(JSON), "{")
        .await
        .refused(400, "MALFORMED_REQUEST");
    send(shop, Some("k"), Some(JSON), "{}")
        .await
        .refused(422, "VALIDATION_FAILED");
    let customer = shop.customer();
    customer.placed("k", &two_of("p1")).await;
    let invalid = with(&two_of("p1"), &json!({ "customer": "" }));
    customer
        .place("k", &invalid)
        .await
        .refused(422, "VALIDATION_FAILED");
    customer
        .place("k", &two_of("none"))
        .await
        .refused(422, "VALIDATION_FAILED");
    customer
        .place("k", &two_of("p2"))
        .await
        .refused(422, "IDEMPOTENCY_KEY_REUSED");
}

async fn bodies_may_be_64_kib_and_not_a_byte_more(shop: &Client) {
    const LIMIT: usize = 64 * 1024;
    let padded = |body: &Value, length: usize| {
        let body = body.to_string();
        let padding = " ".repeat(length - body.len());
        body + &padding
    };
    let order = two_of("p1");
    send(shop, Some("k"), Some(JSON), padded(&order, LIMIT))
        .await
        .is(202);
    let over = send(shop, Some("k"), Some(JSON), padded(&order, LIMIT + 1)).await;
    over.refused(413, "PAYLOAD_TOO_LARGE");
    let none = json!({});
    let change = shop
        .send_json("PATCH", "/products/p1", padded(&none, LIMIT))
        .await;
    change.is(200);
    let over = shop
        .send_json("PATCH", "/products/p1", padded(&none, LIMIT + 1))
        .await;
    over.refused(413, "PAYLOAD_TOO_LARGE");
    let well = json!({ "target": "carrier", "mode": "ok" });
    shop.send_json("POST", "/faults", padded(&well, LIMIT))
        .await
        .is(204);
    let over = shop
        .send_json("POST", "/faults", padded(&well, LIMIT + 1))
        .await;
    over.refused(413, "PAYLOAD_TOO_LARGE");
    let many = send(shop, None, None, vec![b'x'; 3 * 1024 * 1024]).await;
    many.refused(413, "PAYLOAD_TOO_LARGE");
}

async fn a_body_is_sent_as_json(shop: &Client) {
    let order = two_of("p1").to_string();
    for content_type in [
        "text/plain",
        "application/xml",
        "application/jsonx",
        "json",
        "",
        "application/x-www-form-urlencoded",
    ] {
        let answer = send(shop, Some("k"), Some(content_type), order.clone()).await;
        answer.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    for content_type in [
        JSON,
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json;charset=UTF-8",
    ] {
        send(shop, Some("k"), Some(content_type), order.clone())
            .await
            .is(202);
    }
    for (method, path) in [("PATCH", "/products/p1"), ("POST", "/faults")] {
        let bare = shop.request(method, path).body("{}");
        shop.send(bare).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    }
}

async fn a_body_that_is_no_json_is_malformed(shop: &Client) {
    let bodies: [&[u8]; 14] = [
        b"",
        b" ",
        b"{",
        b"nul",
        b"{\"customer\": \"\\",
        b"[1] 2",
        b"{\"a\": 1,}",
        b"{'a': 1}",
        b"NaN",
        b"\xff\xfe\xfd",
        b"{\"customer\": \"\xc3\x28\"}",
        b"{\x00\"\x00}\x00",
        b"\xef\xbb\xbf{}",
        b"{\"customer\": \"a\nb\"}",
    ];
    for body in bodies {
        send(shop, Some("k"), Some(JSON), body)
            .await
            .refused(400, "MALFORMED_REQUEST");
        let change = shop.send_json("PATCH", "/products/p1", body).await;
        change.refused(400, "MALFORMED_REQUEST");
        shop.send_json("POST", "/faults", body)
            .await
            .refused(400, "MALFORMED_REQUEST");
    }
    let order = two_of("p1").to_string();
    let no_utf8 = [
        order.as_bytes().split_last().unwrap().1,
        b",\"more\": \"\xc3\x28\"}",
    ]
    .concat();
    send(shop, Some("k"), Some(JSON), no_utf8)
        .await
        .refused(400, "MALFORMED_REQUEST");
}

async fn a_key_is_1_to_255_printable_characters(shop: &Client) {
    let order = two_of("p1").to_string();
    let (longest, longer) = ("k".repeat(255), "k".repeat(256));
    for key in [
        "",
        "\"\"",
        " ",
        &longer,
        &format!("\"{longer}\""),
        "schl\u{fc}ssel",
        "\"\u{20ac}\"",
        "a\tb",
    ] {
        let answer = send(shop, Some(key), Some(JSON), order.clone()).await;
        answer.refused(400, "IDEMPOTENCY_KEY_INVALID");
    }
    for key in [
        "k",
        "7",
        "a b",
        "a\"b",
        "~!@#$%^&*()",
        &longest,
        &format!("\"{longest}\""),
    ] {
        send(shop, Some(key), Some(JSON), order.clone())
            .await
            .is(202);
    }
    send(shop, None, Some(JSON), order)
        .await
        .refused(400, "IDEMPOTENCY_KEY_MISSING");
}

async fn details_map_each_fields_path_to_what_is_wrong_with_it(shop: &Client) {
    let item =
        |product: Value, quantity: Value| json!([{ "product_id": product, "quantity": quantity }]);
    let p1 = json!("p1");
    for (change, paths) in [
        (json!({ "customer": "" }), vec!["customer"]),
        (json!({ "customer": 7 }), vec!["customer"]),
        (json!({ "customer": null }), vec!["customer"]),
        (json!({ "customer": "x".repeat(101) }), vec!["customer"]),
        (
            json!({ "customer": "\u{fc}".repeat(101) }),
            vec!["customer"],
        ),
        (json!({ "items": [] }), vec!["items"]),
        (json!({ "items": {} }), vec!["items"]),
        (
            json!({ "items": vec![json!({ "product_id": "p1", "quantity": 1 }); 51] }),
            vec!["items"],
        ),
        (
            json!({ "items": item(p1.clone(), json!(0)) }),
            vec!["items[0].quantity"],
        ),
        (
            json!({ "items": item(p1.clone(), json!(-1)) }),
            vec!["items[0].quantity"],
        ),
        (
            json!({ "items": item(p1.clone(), json!(101)) }),
            vec!["items[0].quantity"],
        ),
        (
            json!({ "items": item(p1.clone(), json!(1.5)) }),
            vec!["items[0].quantity"],
        ),
        (
            json!({ "items": item(p1.clone(), json!("2")) }),
            vec!["items[0].quantity"],
        ),
        (
            json!({ "items": item(p1.clone(), json!(u64::MAX)) }),
            vec!["items[0].quantity"],
        ),
        (
            json!({ "items": item(p1.clone(), json!(1e300)) }),
            vec!["items[0].quantity"],
        ),
        (
            json!({ "items": item(json!(1), json!(1)) }),
            vec!["items[0].product_id"],
        ),
        (
            json!({ "items": item(json!("p41"), json!(1)) }),
            vec!["items[0].product_id"],
        ),
        (
            json!({ "items": item(json!(""), json!(1)) }),
            vec!["items[0].product_id"],
        ),
        (
            json!({ "items": item(json!("\u{0}"), json!(1)) }),
            vec!["items[0].product_id"],
        ),
        (
            json!({ "items": [{ "product_id": "p1", "quantity": 1 }, { "product_id": "no", "quantity": 1 }] }),
            vec!["items[1].product_id"],
        ),
        (json!({ "payment_method": "cash" }), vec!["payment_method"]),
        (json!({ "payment_method": null }), vec!["payment_method"]),
        (json!({ "payment_method": 1 }), vec!["payment_method"]),
        (
            json!({ "customer": "", "items": [] }),
            vec!["customer", "items"],
        ),
    ] {
        let answer = shop
            .customer()
            .place("k", &with(&two_of("p1"), &change))
            .await;
        assert_eq!(answer.fields(), paths, "{change}: {answer}");
        let details = answer.body()["error"]["details"].as_object().unwrap();
        assert!(
            details
                .values()
                .all(|told| told.as_str().is_some_and(|told| !told.is_empty())),
            "{answer}"
        );
    }
    for missing in ["customer", "items", "payment_method"] {
        let mut order = two_of("p1");
        order.as_object_mut().unwrap().remove(missing);
        let answer = shop.customer().place("k", &order).await;
        assert_eq!(answer.fields(), [missing], "{answer}");
    }
    for body in ["null", "[]", "7", "\"order\"", "true"] {
        send(shop, Some("k"), Some(JSON), body)
            .await
            .refused(422, "VALIDATION_FAILED");
    }
    // What has its members by name is no list of them.
    for body in [
        r#"["Ada", [{"product_id": "p1", "quantity": 2}], "pm_ok"]"#,
        "[]",
    ] {
        let answer = send(shop, Some("k"), Some(JSON), body).await;
        answer.refused(422, "VALIDATION_FAILED");
    }
    let listed = with(&two_of("p1"), &json!({ "items": [["p1", 2]] }));
    let answer = shop.customer().place("k", &listed).await;
    assert_eq!(answer.fields(), ["items[0]"], "{answer}");
    let fault = shop
        .send_json("POST", "/faults", r#"["carrier", "ok"]"#)
        .await;
    fault.refused(422, "VALIDATION_FAILED");
    // A number that no program holds.
    let order = two_of("p1").to_string();
    let body = order.replace(":2", ":99999999999999999999999999");
    assert_ne!(body, order);
    send(shop, Some("k"), Some(JSON), body)
        .await
        .refused(422, "VALIDATION_FAILED");
}

async fn at_its_bounds_an_order_is_taken(shop: &Client) {
    let item = json!({ "product_id": "p2", "quantity": 1 });
    for change in [
        json!({ "customer": "x" }),
        json!({ "customer": "\u{fc}".repeat(100) }),
        json!({ "customer": "\u{1f980}".repeat(100) }),
        json!({ "items": vec![item.clone(); 50] }),
        json!({ "items": [item, { "product_id": "p2", "quantity": 100 }] }),
    ] {
        let order = with(&two_of("p2"), &change);
        let answer = shop.customer().place("k", &order).await;
        answer.is(202);
        assert_eq!(answer.data()["customer"], order["customer"], "{answer}");
        let items = answer.data()["items"].as_array().unwrap();
        assert_eq!(
            items.len(),
            order["items"].as_array().unwrap().len(),
            "{answer}"
        );
    }
}

async fn every_refusal_leaves_the_key_free(shop: &Client) {
    let customer = shop.customer();
    for body in [
        "{",
        "[]",
        "{\"customer\": \"\"}",
        &two_of("none").to_string(),
    ] {
        let refused = customer
            .send(customer.order("k").body(body.to_owned()))
            .await;
        assert!(matches!(refused.status, 400 | 422), "{refused}");
        assert!(refused.may("idempotency-replayed").is_none(), "{refused}");
    }
    let taken = customer.place("k", &two_of("p3")).await;
    taken.is(202);
    assert!(taken.may("idempotency-replayed").is_none(), "{taken}");
}
