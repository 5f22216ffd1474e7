//! What the shop says of itself: its errors as a page, and its API.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    errors::CODES,
    shop::{Shop, two_of},
};

const JSON: &str = "application/json";

#[tokio::test]
async fn the_catalogue_is_a_page_with_every_code_of_the_contract() {
    let shop = Shop::alone();
    let response = shop.get("/errors").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/html; charset=utf-8"
    );
    let page = response.text().await.unwrap();
    let anchors = page.split("<h2 id=\"").skip(1);
    let codes: Vec<_> = anchors
        .filter_map(|it| it.split_once('"'))
        .map(|(code, _)| code)
        .collect();
    assert_eq!(codes, CODES.map(|(code, _)| code));
    for (code, status) in CODES {
        let row = format!("<tr><td><a href=\"#{code}\"><code>{code}</code></a><td>{status}<td>");
        assert!(page.contains(&row), "{row}");
    }
}

/// The schema, with a reference followed.
fn schema<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    }
}

/// Checks that a value has the members that its schema names, and no others.
fn fits(document: &Value, of: &Value, value: &Value, place: &str) {
    let of = schema(document, of);
    if let Some(properties) = of["properties"].as_object() {
        for (name, value) in value.as_object().unwrap() {
            let of = properties.get(name);
            let of = of.unwrap_or_else(|| panic!("{place}: {name} is not in the document"));
            fits(document, of, value, &format!("{place}/{name}"));
        }
        for name in of["required"].as_array().into_iter().flatten() {
            assert!(
                value.get(name.as_str().unwrap()).is_some(),
                "{place}: {name}"
            );
        }
    } else if of["type"] == "array" {
        for value in value.as_array().unwrap() {
            fits(document, &of["items"], value, place);
        }
    } else if let Some(words) = of["enum"].as_array() {
        assert!(words.contains(value), "{place}: {value}");
    } else {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            _ => "string",
        };
        let is = of["type"] == kind
            || of["type"]
                .as_array()
                .is_some_and(|all| all.contains(&kind.into()));
        assert!(is, "{place}: {value} is no {}", of["type"]);
    }
}

#[tokio::test]
async fn the_document_says_what_the_shop_answers() {
    let shop = Shop::alone();
    let id = shop.accepted("k", &two_of("p1")).await;
    shop.settled(&id).await;
    let document: Value = shop
        .get("/openapi.json")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let asked = match path.as_str() {
            "/products/{id}" => "/products/p1".to_owned(),
            "/orders/{id}" => format!("/orders/{id}"),
            "/shipping-quotes" => "/shipping-quotes?country=SE&quantity=3".to_owned(),
            path => path.to_owned(),
        };
        for method in methods.as_object().unwrap().keys() {
            let answer = shop
                .request(&method.to_uppercase(), &asked)
                .send()
                .await
                .unwrap();
            let status = answer.status().as_u16();
            assert!(!matches!(status, 404 | 405), "{method} {path}: {status}");
            let responses = &methods[method]["responses"];
            let told = &responses[status.to_string()]["content"];
            assert!(
                responses.get(status.to_string()).is_some(),
                "{method} {path}: {status}"
            );
            let body = answer.text().await.unwrap();
            if status == 200 && told[JSON]["schema"].is_object() {
                let body: Value = serde_json::from_str(&body).unwrap();
                fits(&document, &told[JSON]["schema"], &body, path);
            }
        }
    }
    for path in [
        "/products",
        "/orders",
        "/events",
        "/ledger",
        "/faults",
        "/readyz",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    // Every error of an operation has an example of its own, with its code in it.
    let mut by_code = BTreeMap::new();
    for response in paths
        .values()
        .flat_map(|it| it.as_object().unwrap().values())
    {
        for (status, response) in response["responses"].as_object().unwrap() {
            let examples = response["content"][JSON]["examples"].as_object();
            for (code, example) in examples.into_iter().flatten() {
                assert_eq!(example["value"]["error"]["code"], *code);
                by_code.insert(code.clone(), status.parse::<u16>().unwrap());
            }
        }
    }
    let of_no_route = ["METHOD_NOT_ALLOWED", "ROUTE_NOT_FOUND"];
    let known = CODES
        .into_iter()
        .filter(|(code, _)| !of_no_route.contains(code));
    let known = known.map(|(code, status)| (code.to_owned(), status));
    assert_eq!(by_code, known.collect());
}
