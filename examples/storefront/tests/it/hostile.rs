//! What no honest client sends.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::shop::{Shop, error};

/// Sends raw bytes and reads what comes back until the connection ends or falls silent.
async fn raw(shop: &Shop, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(shop.address()).await.unwrap();
    // The server may have refused it half-way.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_huge_body_is_refused_and_the_answer_arrives() {
    let shop = Shop::alone();
    for size in [64 * 1024 + 1, 1024 * 1024, 6 * 1024 * 1024] {
        for path in ["/orders", "/faults"] {
            let request = shop.post(path).header("content-type", "application/json");
            let response = request.body("x".repeat(size)).send().await.unwrap();
            error(response, 413, "PAYLOAD_TOO_LARGE").await;
        }
    }
    let mut chunked = b"POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..100 {
        chunked.extend_from_slice(b"1000\r\n");
        chunked.extend_from_slice(&[b'x'; 0x1000]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(&shop, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("PAYLOAD_TOO_LARGE"), "{answer}");
    let asks = b"POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-length: 9999999999\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    let answer = raw(&shop, asks).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn bodies_that_are_no_json_no_utf8_or_too_deep_are_malformed() {
    let shop = Shop::alone();
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let deep_object = "{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000);
    let bodies: [&[u8]; 8] = [
        b"",
        b"\xff\xfe\xfd",
        b"{\"customer\": \"\xc3\x28\"}",
        b"\xef\xbb\xbf{}",
        b"{\"customer\": \"\\ud800\"}",
        b"nul",
        deep.as_bytes(),
        deep_object.as_bytes(),
    ];
    for body in bodies {
        let request = shop
            .post("/orders")
            .header("content-type", "application/json");
        let request = request.header("idempotency-key", "k").body(body.to_vec());
        error(request.send().await.unwrap(), 400, "MALFORMED_REQUEST").await;
    }
}

#[tokio::test]
async fn nothing_internal_is_told_and_nothing_panics_whatever_comes() {
    let shop = Shop::alone();
    let mut rng = StdRng::seed_from_u64(7);
    let paths = [
        "/orders",
        "/products/p1",
        "/faults",
        "/shipping-quotes",
        "/ledger",
        "/%00%ff",
        "/products/%F0",
    ];
    let methods = [
        "GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW",
    ];
    let seeds: [&[u8]; 4] = [
        br#"{"customer":"Ada","items":[{"product_id":"p1","quantity":2}],"payment_method":"pm_ok"}"#,
        br#"{"target":"carrier","mode":"slow","rate":0.5,"latency_ms":10}"#,
        br#"{"price":1,"name":"x","stock":2}"#,
        b"[[[[\"\\u0000\"]]]]",
    ];
    for _ in 0..400 {
        let mut body = seeds[rng.random_range(0..seeds.len())].to_vec();
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..body.len());
            body[at] = rng.random();
        }
        let path = paths[rng.random_range(0..paths.len())];
        let method = methods[rng.random_range(0..methods.len())];
        let query: String = (0..rng.random_range(0..8))
            .map(|_| rng.random_range(' '..='~'))
            .collect();
        let url = format!("{path}?limit={}", query.replace(['#', ' '], "%"));
        let request = shop
            .request(method, &url)
            .header("content-type", "application/json");
        let request = request.header("idempotency-key", rng.random::<u32>().to_string());
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        assert!(status != 500 && status != 502, "{method} {url}: {status}");
        assert!(response.headers().contains_key("x-request-id"));
        let json = response
            .headers()
            .get("content-type")
            .is_none_or(|kind| kind == "application/json");
        assert!(json, "{method} {url}");
        let body = response.text().await.unwrap();
        for internal in [
            "serde",
            "sqlx",
            "SELECT",
            "::",
            "src/",
            "panick",
            "storefront.db",
        ] {
            assert!(!body.contains(internal), "{method} {url}: {body}");
        }
    }
    assert!(!shop.log().contains("panicked"), "{}", shop.log());
}
