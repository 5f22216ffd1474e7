//! "Shapes": what every answer has, in which form errors come, and the rows that belong to no route.

use serde_json::json;

use super::{
    Checks, checks,
    client::{Client, JSON, PROBLEM, two_of},
};

pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop;
        the_callers_request_id_comes_back_when_it_is_good_and_else_a_new_one,
        every_answer_has_a_request_id_of_its_own,
        a_success_has_data_and_only_where_there_is_something_to_say_meta,
        an_error_is_problem_json_when_that_is_preferred,
        the_same_error_stands_in_both_forms,
        head_works_as_get_without_the_body,
        another_method_is_refused_with_what_is_allowed,
        what_is_no_route_is_not_found_before_anything_else,
    ]
}

async fn the_callers_request_id_comes_back_when_it_is_good_and_else_a_new_one(shop: &Client) {
    let longest = "x".repeat(64);
    for path in [
        "/healthz",
        "/products/p1",
        "/orders/none",
        "/nowhere",
        "/metrics",
        "/errors",
    ] {
        for id in ["a", "7", "-", ".", "_", "A.b_c-9", &longest] {
            shop.send(shop.request("GET", path).header("x-request-id", id))
                .await;
        }
        for id in [
            "",
            "a b",
            "a/b",
            "a,b",
            "a=b",
            "\u{fc}",
            &format!("{longest}x"),
        ] {
            let request = shop
                .request("GET", path)
                .header("x-request-id", id.as_bytes());
            shop.send(request).await;
        }
    }
    // Whatever the answer is. That it comes back is looked at with each.
    let with_id = |method, path| shop.request(method, path).header("x-request-id", "mine");
    shop.send(with_id("DELETE", "/orders")).await.is(405);
    shop.send(with_id("POST", "/orders")).await.is(415);
    shop.send(with_id("HEAD", "/products")).await.is(200);
    let known = with_id("GET", "/products/p1").header("if-none-match", "*");
    shop.send(known).await.is(304);
    let huge = with_id("POST", "/orders").body("x".repeat(70_000));
    shop.send(huge).await.is(413);
}

async fn every_answer_has_a_request_id_of_its_own(shop: &Client) {
    let (first, second) = (shop.get("/healthz").await, shop.get("/healthz").await);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

async fn a_success_has_data_and_only_where_there_is_something_to_say_meta(shop: &Client) {
    for (path, pages) in [
        ("/products", true),
        ("/orders", true),
        ("/products/p1", false),
        ("/ledger", false),
        ("/healthz", false),
        ("/readyz", false),
        ("/shipping-quotes?country=SE&quantity=3", false),
    ] {
        let answer = shop.get(path).await;
        answer.is(200);
        assert_eq!(answer.header("content-type"), JSON, "{answer}");
        assert_eq!(answer.body().get("meta").is_some(), pages, "{answer}");
    }
}

async fn an_error_is_problem_json_when_that_is_preferred(shop: &Client) {
    for (accept, form) in [
        ("application/problem+json", PROBLEM),
        ("Application/Problem+JSON", PROBLEM),
        ("application/problem+json, application/json;q=0.9", PROBLEM),
        (
            "application/json;q=0.5, application/problem+json;q=0.8",
            PROBLEM,
        ),
        ("text/html, application/problem+json;q=0.1", PROBLEM),
        ("application/problem+json, */*;q=0.1", PROBLEM),
        ("application/json, application/problem+json;q=0.9", JSON),
        ("application/json", JSON),
        ("application/problem+json;q=0", JSON),
        ("application/problem+json;q=0, */*", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/html", JSON),
        ("", JSON),
        ("nonsense;;q=", JSON),
    ] {
        for path in ["/orders/none", "/nowhere", "/products?limit=0"] {
            let answer = shop
                .send(shop.request("GET", path).header("accept", accept))
                .await;
            assert_eq!(answer.header("content-type"), form, "{accept}: {answer}");
        }
    }
}

async fn the_same_error_stands_in_both_forms(shop: &Client) {
    for (method, path) in [
        ("GET", "/orders/none"),
        ("GET", "/products/none"),
        ("GET", "/nowhere"),
        ("PUT", "/products/p1"),
        ("GET", "/events?limit=0"),
        ("POST", "/orders"),
        ("PATCH", "/products/p1"),
    ] {
        let envelope = shop.send(shop.request(method, path)).await;
        let request = shop.request(method, path).header("accept", PROBLEM);
        let problem = shop.send(request).await;
        assert_eq!(problem.header("content-type"), PROBLEM, "{problem}");
        assert_eq!(
            problem.body()["code"],
            envelope.body()["error"]["code"],
            "{problem}"
        );
        assert_eq!(
            (problem.status, problem.message()),
            (envelope.status, envelope.message()),
            "{problem}"
        );
    }
}

async fn head_works_as_get_without_the_body(shop: &Client) {
    for path in [
        "/healthz",
        "/readyz",
        "/products?limit=3",
        "/orders/none",
        "/products/none",
        "/nowhere",
        "/errors",
        "/openapi.json",
        "/events?limit=0",
        "/shipping-quotes",
    ] {
        let get = shop.get(path).await;
        let head = shop.send(shop.request("HEAD", path)).await;
        assert_eq!(head.status, get.status, "{head}");
        for name in ["content-type", "content-length", "vary"] {
            assert_eq!(head.may(name), get.may(name), "{name}: {head}");
        }
    }
    let head = shop.send(shop.request("HEAD", "/products/p1")).await;
    head.is(200);
    assert_eq!(head.header("etag"), "\"1\"");
    assert!(head.header("cache-status").starts_with("storefront; "));
    let request = shop
        .request("HEAD", "/products/p1")
        .header("if-none-match", "\"1\"");
    shop.send(request).await.is(304);
}

async fn another_method_is_refused_with_what_is_allowed(shop: &Client) {
    let read = vec!["GET", "HEAD"];
    for (path, allowed) in [
        ("/healthz", read.clone()),
        ("/readyz", read.clone()),
        ("/metrics", read.clone()),
        ("/openapi.json", read.clone()),
        ("/errors", read.clone()),
        ("/events", read.clone()),
        ("/ledger", read.clone()),
        ("/shipping-quotes", read.clone()),
        ("/products", read.clone()),
        ("/orders/none", read),
        ("/products/p1", vec!["GET", "HEAD", "PATCH"]),
        ("/orders", vec!["GET", "HEAD", "POST"]),
        ("/faults", vec!["POST"]),
    ] {
        for method in [
            "GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW",
        ] {
            if allowed.contains(&method) {
                continue;
            }
            let answer = shop.send(shop.request(method, path)).await;
            answer.is(405);
            assert!(
                method == "HEAD" || answer.code() == "METHOD_NOT_ALLOWED",
                "{answer}"
            );
            let mut told: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
            told.sort_unstable();
            assert_eq!(told, allowed, "{answer}");
        }
    }
}

async fn what_is_no_route_is_not_found_before_anything_else(shop: &Client) {
    for path in [
        "/",
        "/nowhere",
        "/orders/a/b",
        "/products/",
        "/orders/",
        "/Products",
        "/%ff",
        "/faults/x",
        "/products/p1/",
    ] {
        shop.get(path).await.refused(404, "ROUTE_NOT_FOUND");
    }
    // Route, method, and only then the size.
    let huge = "x".repeat(70_000);
    let nowhere = shop.request("POST", "/nowhere").body(huge.clone());
    shop.send(nowhere).await.refused(404, "ROUTE_NOT_FOUND");
    let wrong = shop.request("DELETE", "/orders").body(huge.clone());
    shop.send(wrong).await.refused(405, "METHOD_NOT_ALLOWED");
    let large = shop.request("PATCH", "/products/none").body(huge);
    shop.send(large).await.refused(413, "PAYLOAD_TOO_LARGE");
    for id in [
        "p41",
        "P1",
        "p01",
        "%00",
        "%27",
        "%20",
        "none",
        &"x".repeat(500),
    ] {
        shop.get(&format!("/products/{id}"))
            .await
            .refused(404, "PRODUCT_NOT_FOUND");
        let change = shop
            .patch(&format!("/products/{id}"), &json!({ "price": 1 }))
            .await;
        change.refused(404, "PRODUCT_NOT_FOUND");
    }
    for id in ["none", "%00", "%27%20OR%201=1", "0", &"x".repeat(500)] {
        shop.get(&format!("/orders/{id}"))
            .await
            .refused(404, "ORDER_NOT_FOUND");
    }
    // An order that a customer makes up, of a product that is none.
    let customer = shop.customer();
    let unknown = customer.place("k", &two_of("none")).await;
    assert_eq!(unknown.fields(), ["items[0].product_id"], "{unknown}");
}
