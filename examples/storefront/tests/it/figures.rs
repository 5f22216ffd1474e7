//! The page of figures: it can be read, holds every pattern's, and nobody's secrets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use buttress_testkit::{eventually, left_out::LeftOut, redis};

use crate::shop::{Database, Shop, two_of};

/// The page's series, each with its value, read as strictly as Prometheus reads it.
async fn page(shop: &Shop) -> BTreeMap<String, f64> {
    let answer = shop.get("/metrics").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let format = answer.headers()["content-type"].to_str().unwrap();
    assert_eq!(format, "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    let (mut kinds, mut described) = (BTreeMap::new(), BTreeSet::new());
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let what = words.next();
            if what == Some("HELP") {
                described.insert(words.next().unwrap().to_owned());
                assert!(words.next().is_some(), "{line}");
            }
            if what == Some("TYPE") {
                let (name, kind) = (words.next().unwrap(), words.next().unwrap());
                assert!(described.contains(name), "not said what it is: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(
                    kinds.insert(name.to_owned(), kind.to_owned()),
                    None,
                    "{line}"
                );
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value = value.parse::<f64>().unwrap();
        let bare = name.split('{').next().unwrap();
        let parts = ["", "_bucket", "_sum", "_count"];
        let known = |part: &&str| {
            bare.strip_suffix(*part)
                .is_some_and(|it| kinds.contains_key(it))
        };
        assert!(parts.iter().any(known), "no TYPE before: {line}");
        let lawful = |it: char| it.is_ascii_lowercase() || it == '_';
        assert!(
            bare.starts_with("buttress_") && bare.chars().all(lawful),
            "{line}"
        );
        if let Some((_, labels)) = name.split_once('{') {
            assert!(labels.ends_with("\"}"), "{line}");
        }
        assert_eq!(series.insert(name.to_owned(), value), None, "twice: {line}");
    }
    series
}

fn sum(series: &BTreeMap<String, f64>, start: &str) -> f64 {
    let of = series.iter().filter(|(name, _)| name.starts_with(start));
    of.map(|(_, value)| value).sum()
}

#[tokio::test]
async fn after_some_traffic_every_pattern_has_its_figures_and_nobody_is_in_them() {
    let database = Database::sqlite();
    let shop = Shop::start_with(&database, &["--faults", "--order-rate", "1"]);
    let client = "ada-0451@example.com";
    shop.fault("carrier", "error", 1.0, 0).await;
    for _ in 0..6 {
        let quote = shop.get("/shipping-quotes?country=SE&quantity=3").send();
        assert!(quote.await.unwrap().status().is_server_error());
    }
    let send = |key: &str| {
        let request = shop.post("/orders").header("idempotency-key", key);
        request
            .header("x-api-key", client)
            .json(&two_of("p1"))
            .send()
    };
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(send("key-0451").await.unwrap().status().as_u16());
    }
    assert!(
        statuses.contains(&202) && statuses.contains(&429),
        "{statuses:?}"
    );
    let id = shop.all("orders").await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    shop.settled(&id).await;
    shop.read("/products/p1").await;
    let series = eventually(
        "the event is delivered",
        Duration::from_secs(20),
        async || {
            let series = page(&shop).await;
            (sum(&series, "buttress_outbox_delivered_total{") >= 1.0).then_some(series)
        },
    )
    .await;
    for (start, least) in [
        (
            "buttress_circuit_breaker_calls_total{name=\"carrier\",outcome=\"failure\"}",
            10.0,
        ),
        (
            "buttress_circuit_breaker_rejected_total{name=\"carrier\"",
            1.0,
        ),
        ("buttress_circuit_breaker_open{name=\"carrier\"}", 1.0),
        (
            "buttress_circuit_breaker_calls_total{name=\"payments\",outcome=\"success\"}",
            1.0,
        ),
        (
            "buttress_retry_backoff_retries_total{name=\"carrier\"}",
            2.0,
        ),
        (
            "buttress_retry_backoff_attempts_bucket{name=\"carrier\"",
            1.0,
        ),
        (
            "buttress_retry_backoff_wait_seconds_count{name=\"carrier\"}",
            2.0,
        ),
        ("buttress_rate_limiter_allowed_total{name=\"orders\"}", 1.0),
        ("buttress_rate_limiter_refused_total{name=\"orders\"", 1.0),
        (
            "buttress_idempotency_begun_total{name=\"orders\",answer=\"new\"}",
            1.0,
        ),
        (
            "buttress_idempotency_begun_total{name=\"orders\",answer=\"replayed\"}",
            1.0,
        ),
        ("buttress_cache_aside_misses_total{", 1.0),
        ("buttress_saga_steps_total{", 4.0),
        ("buttress_outbox_lanes_total{topic=\"orders\"", 1.0),
    ] {
        assert!(sum(&series, start) >= least, "{start}: {series:#?}");
    }
    assert!(series.contains_key("buttress_outbox_depth{topic=\"orders\"}"));
    let labels = series.keys().cloned().collect::<Vec<_>>().join("\n");
    for private in [
        "ada",
        "0451",
        id.as_str(),
        "p1",
        "127.0.0.1",
        "sqlite",
        "whsec",
    ] {
        assert!(!labels.contains(private), "{private}: {labels}");
    }
    // More of the same traffic makes no new series: labels are words of ours.
    for number in 0..20 {
        let _answer = send(&format!("other-{number}")).await.unwrap();
        let quote = shop.get(&format!(
            "/shipping-quotes?country=SE&quantity={}",
            number + 1
        ));
        let _answer = quote.send().await.unwrap();
    }
    let more = page(&shop).await;
    let new: Vec<_> = more
        .keys()
        .filter(|name| !series.contains_key(*name))
        .collect();
    assert!(new.len() <= 12, "{new:#?}");
}

/// The carrier is down for two of three instances; the third opens with them, asks nobody, and is
/// closed again when it is well.
#[tokio::test]
async fn instances_with_a_redis_share_what_their_breakers_see() {
    if let Err(missing) = redis::find() {
        LeftOut::new("figures", missing.to_string()).register();
        return;
    }
    let server = redis::Server::start().unwrap();
    let database = Database::sqlite();
    let options = ["--faults", "--redis-url", &server.url()];
    let shops: Vec<_> = (0..3)
        .map(|_| Shop::start_with(&database, &options))
        .collect();
    for shop in &shops {
        eventually("it hears the others", Duration::from_secs(20), async || {
            let members = "buttress_circuit_breaker_fleet_members{name=\"storefront\"}";
            (page(shop).await.get(members) == Some(&3.0)).then_some(())
        })
        .await;
    }
    let quote = async |shop: &Shop| {
        let quote = shop.get("/shipping-quotes?country=SE&quantity=3").send();
        quote.await.unwrap().status().as_u16()
    };
    for shop in &shops[..2] {
        shop.fault("carrier", "error", 1.0, 0).await;
    }
    let opened = "buttress_circuit_breaker_transitions_total{name=\"carrier\",from=\"closed\",to=\"open\",cause=\"fleet\"}";
    eventually(
        "the third opens as well",
        Duration::from_secs(20),
        async || {
            for shop in &shops[..2] {
                quote(shop).await;
            }
            page(&shops[2]).await.get(opened).copied()
        },
    )
    .await;
    for shop in &shops[..2] {
        shop.fault("carrier", "ok", 1.0, 0).await;
    }
    for shop in &shops {
        eventually(
            "all are closed again",
            Duration::from_secs(30),
            async || (quote(shop).await == 200).then_some(()),
        )
        .await;
    }
    // It is not there any more, and nobody notices.
    server.kill();
    for shop in &shops {
        assert_eq!(quote(shop).await, 200);
        assert_eq!(shop.get("/metrics").send().await.unwrap().status(), 200);
    }
}
