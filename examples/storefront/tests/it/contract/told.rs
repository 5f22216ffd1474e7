//! What the shop tells: events, the ledger, its own health, figures, API and errors; and how fast one may order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    Checks, checks,
    client::{Client, JSON, keys, two_of, with},
    orders::is_utc,
};

const CODES: [(&str, u16); 20] = [
    ("MALFORMED_REQUEST", 400),
    ("IDEMPOTENCY_KEY_MISSING", 400),
    ("IDEMPOTENCY_KEY_INVALID", 400),
    ("ROUTE_NOT_FOUND", 404),
    ("PRODUCT_NOT_FOUND", 404),
    ("ORDER_NOT_FOUND", 404),
    ("METHOD_NOT_ALLOWED", 405),
    ("IDEMPOTENCY_KEY_IN_USE", 409),
    ("VERSION_CONFLICT", 412),
    ("PAYLOAD_TOO_LARGE", 413),
    ("UNSUPPORTED_MEDIA_TYPE", 415),
    ("IDEMPOTENCY_KEY_REUSED", 422),
    ("VALIDATION_FAILED", 422),
    ("RATE_LIMITED", 429),
    ("INTERNAL", 500),
    ("UPSTREAM_FAILED", 502),
    ("CIRCUIT_OPEN", 503),
    ("UNAVAILABLE", 503),
    ("NOT_READY", 503),
    ("UPSTREAM_TIMEOUT", 504),
];

const ROUTES: [&str; 13] = [
    "/healthz",
    "/readyz",
    "/products",
    "/products/{id}",
    "/orders",
    "/orders/{id}",
    "/shipping-quotes",
    "/events",
    "/ledger",
    "/metrics",
    "/openapi.json",
    "/errors",
    "/faults",
];

pub(super) fn all(shop: &Client) -> Checks<'_> {
    checks![shop;
        it_says_that_it_lives_and_is_ready,
        its_figures_are_prometheus_text,
        its_api_names_every_route,
        its_errors_are_a_page,
        events_are_placed_and_then_confirmed_or_cancelled,
        the_ledger_has_pages_and_all_without_parameters,
        a_burst_then_429_and_a_refusal_leaves_the_key_free,
        over_all_instances_never_more_than_the_rate,
        a_quote_says_what_was_asked_and_what_it_costs,
        a_fault_that_makes_no_sense_is_refused,
    ]
}

async fn it_says_that_it_lives_and_is_ready(shop: &Client) {
    for instance in shop.each() {
        let alive = instance.get("/healthz").await;
        alive.is(200);
        assert!(alive.data().is_object(), "{alive}");
        let ready = instance.get("/readyz").await;
        ready.is(200);
        assert!(
            !ready.data()["degraded"].to_string().contains("redis"),
            "{ready}"
        );
    }
}

async fn its_figures_are_prometheus_text(shop: &Client) {
    let figures = shop.get("/metrics").await;
    figures.is(200);
    assert!(
        figures
            .header("content-type")
            .starts_with("text/plain; version=0.0.4"),
        "{figures}"
    );
    let text = String::from_utf8(figures.bytes.clone()).unwrap();
    assert!(
        text.lines().any(|line| line.starts_with("# TYPE ")),
        "{figures}"
    );
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

async fn its_api_names_every_route(shop: &Client) {
    let document = shop.get("/openapi.json").await;
    document.is(200);
    assert_eq!(document.header("content-type"), JSON);
    assert!(
        document.body()["openapi"]
            .as_str()
            .unwrap()
            .starts_with("3.")
    );
    let paths: BTreeSet<_> = keys(&document.body()["paths"]).into_iter().collect();
    assert_eq!(paths, ROUTES.map(str::to_owned).into());
    let of = |path: &str| keys(&document.body()["paths"][path]);
    assert_eq!(of("/orders"), ["get", "post"]);
    assert_eq!(of("/products/{id}"), ["get", "patch"]);
    assert_eq!(of("/faults"), ["post"]);
}

async fn its_errors_are_a_page(shop: &Client) {
    let page = shop.get("/errors").await;
    page.is(200);
    assert!(
        page.header("content-type").starts_with("text/html"),
        "{page}"
    );
    let text = String::from_utf8(page.bytes.clone()).unwrap();
    for (code, status) in CODES {
        assert!(
            text.contains(code) && text.contains(&status.to_string()),
            "{code}"
        );
    }
}

async fn events_are_placed_and_then_confirmed_or_cancelled(shop: &Client) {
    let customer = shop.customer();
    let declined = with(&two_of("p14"), &json!({ "payment_method": "pm_declined" }));
    let ids = [
        customer.placed("ok", &two_of("p14")).await,
        customer.placed("declined", &declined).await,
        customer.placed("again", &two_of("p14")).await,
    ];
    customer.placed("again", &two_of("p14")).await;
    for id in &ids {
        shop.settled(id).await;
    }
    all_are_told(shop, &ids).await;
    let events = shop.events().await;
    let first = &events[0];
    assert_eq!(
        keys(first),
        ["id", "seq", "subject", "time", "type"],
        "{first}"
    );
    is_utc(&first["time"]);
    // By default 100 of them from the first; `after` is behind, and `limit` what it says.
    let page = shop.get("/events").await;
    let by_default = events.len().min(100);
    assert_eq!(
        page.data().as_array().unwrap()[..by_default.min(3)],
        events[..by_default.min(3)],
        "{page}"
    );
    assert!(page.data().as_array().unwrap().len() <= 100, "{page}");
    let after = events[1]["seq"].as_i64().unwrap();
    let page = shop.get(&format!("/events?after={after}&limit=2")).await;
    assert_eq!(page.data().as_array().unwrap()[..], events[2..4], "{page}");
    let end = shop.get(&format!("/events?after={}", i64::MAX)).await;
    assert_eq!(*end.data(), json!([]), "{end}");
    for limit in [1, 1000] {
        shop.get(&format!("/events?limit={limit}")).await.is(200);
    }
}

/// Waits until of each of these orders is told what its status says, and looks at all that is told meanwhile.
pub(super) async fn all_are_told(shop: &Client, ids: &[String]) {
    let mut expected = BTreeMap::new();
    for id in ids {
        let status = shop.settled(id).await["status"]
            .as_str()
            .unwrap()
            .to_owned();
        expected.insert(
            id.as_str(),
            vec!["order.placed".to_owned(), format!("order.{status}")],
        );
    }
    let mut before: Vec<Value> = Vec::new();
    let told = async || {
        let events = shop.events().await;
        assert!(
            events.starts_with(&before),
            "{}: something came below what was shown",
            shop.name
        );
        before.clone_from(&events);
        let told = by_order(&events);
        let all = expected
            .iter()
            .all(|(id, kinds)| told.get(*id) == Some(kinds));
        all.then_some(())
    };
    shop.until("all is told", Duration::from_secs(120), told)
        .await;
}

/// What each order's events are, in their order. Each is there once.
pub(super) fn by_order(events: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut ids = BTreeSet::new();
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let seqs: Vec<_> = events
        .iter()
        .map(|event| event["seq"].as_i64().unwrap())
        .collect();
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    for event in events {
        assert!(ids.insert(event["id"].as_str().unwrap()), "twice: {event}");
        let subject = event["subject"].as_str().unwrap().to_owned();
        let kind = event["type"].as_str().unwrap().to_owned();
        seen.entry(subject).or_default().push(kind);
    }
    seen
}

async fn the_ledger_has_pages_and_all_without_parameters(shop: &Client) {
    let customer = shop.customer();
    for key in ["a", "b", "c"] {
        let answer = customer.place(key, &two_of("p15")).await;
        let order = shop.settled(answer.data()["id"].as_str().unwrap()).await;
        let charges = shop.charges().await;
        let charge = charges
            .iter()
            .find(|charge| charge["order_id"] == order["id"]);
        let charge = charge.unwrap();
        assert_eq!(
            keys(charge),
            ["amount", "order_id", "refunded", "seq"],
            "{charge}"
        );
        assert_eq!(
            (&charge["amount"], &charge["refunded"]),
            (&order["total"], &json!(0)),
            "{charge}"
        );
    }
    let all = shop.charges().await;
    assert!(all.len() >= 3);
    assert!(all.is_sorted_by_key(|charge| charge["seq"].as_i64().unwrap()));
    let after = all[0]["seq"].as_i64().unwrap();
    let page = shop.get(&format!("/ledger?after={after}&limit=2")).await;
    let page = page.data()["charges"].as_array().unwrap().clone();
    assert_eq!(page.len(), 2);
    assert!(
        page.iter()
            .all(|charge| charge["seq"].as_i64().unwrap() > after),
        "{page:?}"
    );
    let end = shop.get(&format!("/ledger?after={}", i64::MAX)).await;
    assert_eq!(end.data()["charges"], json!([]), "{end}");
}

async fn a_burst_then_429_and_a_refusal_leaves_the_key_free(shop: &Client) {
    let (customer, other) = (&shop.customer(), shop.customer());
    let order = two_of("p16");
    let first = customer.place("first", &order).await;
    first.is(202);
    assert_eq!(first.header("ratelimit-policy"), "\"orders\";q=20;w=2");
    assert!(
        first.header("ratelimit").starts_with("\"orders\";r="),
        "{first}"
    );
    // Replays count as well, and so does what is refused for its body.
    let mut answers = Vec::new();
    let begun = Instant::now();
    let refused = loop {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{}: never refused",
            shop.name
        );
        let burst = (0..30).map(|number| async move {
            match number % 3 {
                0 => customer_sends(customer, "first").await,
                1 => customer.send(customer.order("broken").body("{")).await,
                _ => customer_sends(customer, &format!("k{number}")).await,
            }
        });
        answers.extend(join_all(burst).await);
        if let Some(refused) = answers.iter().find(|answer| answer.status == 429) {
            break refused;
        }
    };
    refused.refused(429, "RATE_LIMITED");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=2).contains(&wait), "{refused}");
    assert_eq!(refused.header("ratelimit-policy"), "\"orders\";q=20;w=2");
    assert!(
        refused.header("ratelimit").starts_with("\"orders\";r=0;t="),
        "{refused}"
    );
    for answer in &answers {
        assert!(matches!(answer.status, 202 | 400 | 429), "{answer}");
        assert_eq!(
            answer.may("ratelimit-policy").is_some(),
            answer.status != 400,
            "{answer}"
        );
    }
    // Others notice nothing, and after the wait the key is free.
    other.place("first", &order).await.is(202);
    let taken = shop.until("the wait is over", Duration::from_secs(20), async || {
        let answer = customer.place("afterwards", &order).await;
        (answer.status != 429).then_some(answer)
    });
    let taken = taken.await;
    taken.is(202);
    assert!(taken.may("idempotency-replayed").is_none(), "{taken}");
}

async fn customer_sends(customer: &Client, key: &str) -> super::client::Answer {
    customer.place(key, &two_of("p16")).await
}

async fn over_all_instances_never_more_than_the_rate(shop: &Client) {
    let customer = &shop.customer();
    let begun = Instant::now();
    let demand = (0..4).map(|asker| async move {
        let mut taken = 0_u32;
        for number in 0..25 {
            let answer = customer
                .place(&format!("{asker}-{number}"), &two_of("p17"))
                .await;
            assert!(matches!(answer.status, 202 | 429), "{answer}");
            taken += u32::from(answer.status == 202);
        }
        taken
    });
    let taken: u32 = join_all(demand).await.into_iter().sum();
    let most = 20.0 + 10.0 * begun.elapsed().as_secs_f64();
    let taken = f64::from(taken);
    assert!(
        (20.0..=most).contains(&taken),
        "{}: {taken}, and at most {most}",
        shop.name
    );
}

async fn a_quote_says_what_was_asked_and_what_it_costs(shop: &Client) {
    for (country, quantity) in [("SE", 3), ("DE", 1), ("FR", 100)] {
        let quote = shop
            .get(&format!(
                "/shipping-quotes?country={country}&quantity={quantity}"
            ))
            .await;
        quote.is(200);
        assert_eq!(
            keys(quote.data()),
            ["carrier", "country", "price", "quantity"],
            "{quote}"
        );
        assert_eq!(
            (&quote.data()["country"], &quote.data()["quantity"]),
            (&json!(country), &json!(quantity)),
            "{quote}"
        );
        assert!(
            quote.data()["price"]
                .as_i64()
                .is_some_and(|price| price > 0),
            "{quote}"
        );
        assert!(quote.data()["carrier"].is_string(), "{quote}");
    }
}

async fn a_fault_that_makes_no_sense_is_refused(shop: &Client) {
    let good = json!({ "target": "carrier", "mode": "ok", "rate": 1.0, "latency_ms": 0 });
    for (change, field) in [
        (json!({ "target": "moon" }), "target"),
        (json!({ "target": null }), "target"),
        (json!({ "mode": "explode" }), "mode"),
        (json!({ "rate": 1.5 }), "rate"),
        (json!({ "rate": -0.1 }), "rate"),
        (json!({ "rate": "1" }), "rate"),
        (json!({ "latency_ms": 60_001 }), "latency_ms"),
        (json!({ "latency_ms": -1 }), "latency_ms"),
        (json!({ "latency_ms": 1.5 }), "latency_ms"),
    ] {
        let answer = shop.post("/faults", &with(&good, &change)).await;
        assert_eq!(answer.fields(), [field], "{change}: {answer}");
    }
    for bounds in [
        json!({ "rate": 0 }),
        json!({ "rate": 1 }),
        json!({ "latency_ms": 60_000 }),
    ] {
        shop.post("/faults", &with(&good, &bounds)).await.is(204);
    }
}
