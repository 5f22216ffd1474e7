//! Every error of the shop, in every form: what it shows, and that it shows no more.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};

use crate::shop::{Shop, two_of};

/// Planted in whatever a driver's error, a header or a body may hold.
const CANARY: &str = "c4n4ry";

/// The contract's table.
pub(crate) const CODES: [(&str, u16); 20] = [
    ("CIRCUIT_OPEN", 503),
    ("IDEMPOTENCY_KEY_INVALID", 400),
    ("IDEMPOTENCY_KEY_IN_USE", 409),
    ("IDEMPOTENCY_KEY_MISSING", 400),
    ("IDEMPOTENCY_KEY_REUSED", 422),
    ("INTERNAL", 500),
    ("MALFORMED_REQUEST", 400),
    ("METHOD_NOT_ALLOWED", 405),
    ("NOT_READY", 503),
    ("ORDER_NOT_FOUND", 404),
    ("PAYLOAD_TOO_LARGE", 413),
    ("PRODUCT_NOT_FOUND", 404),
    ("RATE_LIMITED", 429),
    ("ROUTE_NOT_FOUND", 404),
    ("UNAVAILABLE", 503),
    ("UNSUPPORTED_MEDIA_TYPE", 415),
    ("UPSTREAM_FAILED", 502),
    ("UPSTREAM_TIMEOUT", 504),
    ("VALIDATION_FAILED", 422),
    ("VERSION_CONFLICT", 412),
];

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const RPC: &str = "application/protobuf+json";

/// The shop under test, and the errors that it has shown.
struct Walk {
    shop: Shop,
    seen: BTreeSet<String>,
    clients: u32,
}

impl Walk {
    /// An order of a client of his own, under this key.
    fn order(&mut self, key: &str) -> RequestBuilder {
        self.clients += 1;
        let request = self.shop.post("/orders?secret=c4n4ry");
        let request = request.header("x-api-key", format!("{CANARY}-{}", self.clients));
        request.header("idempotency-key", key)
    }

    /// Sends it for each form, and looks at each.
    async fn each(&mut self, code: &str, mut request: impl FnMut(&mut Self) -> RequestBuilder) {
        for accept in [JSON, PROBLEM, RPC] {
            let request = request(self).header("accept", accept);
            self.one(code, accept, request.send().await.unwrap()).await;
        }
    }

    async fn one(&mut self, code: &str, accept: &str, response: Response) {
        let (_, status) = CODES.iter().find(|(known, _)| *known == code).unwrap();
        let headers = response.headers().clone();
        let told = format!("{code} as {accept}: {} {headers:?}", response.status());
        assert_eq!(response.status(), *status, "{told}");
        assert!(
            headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with(accept),
            "{told}"
        );
        assert_eq!(headers["cache-control"], "no-store", "{told}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{told}");
        assert!(headers.contains_key("x-request-id"), "{told}");
        let vary = headers.get_all("vary").iter();
        assert_eq!(vary.filter(|it| *it == "accept").count(), 1, "{told}");
        let wait = headers.get("retry-after").map(|it| it.to_str().unwrap());
        let wait: Option<u64> = wait.map(|it| it.parse().unwrap());
        let waits = matches!(status, 409 | 429 | 503);
        assert_eq!(wait.is_some_and(|seconds| seconds >= 1), waits, "{told}");
        assert_eq!(headers.contains_key("allow"), *status == 405, "{told}");
        assert_eq!(headers.contains_key("ratelimit"), *status == 429, "{told}");
        let text = response.text().await.unwrap();
        assert!(
            !told.contains(CANARY) && !text.contains(CANARY),
            "{told}: {text}"
        );
        let body: Value = serde_json::from_str(&text).unwrap();
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        match accept {
            JSON => {
                assert_eq!(keys(&body), ["error", "success"], "{text}");
                let error = &body["error"];
                assert_eq!(error["code"], code);
                assert!(may_have_fields(code, error.get("details")), "{text}");
                assert!(error["message"].as_str().unwrap().ends_with('.'), "{text}");
                assert!(keys(error).len() <= 3, "{text}");
            }
            PROBLEM => {
                assert_eq!(
                    (&body["code"], &body["status"]),
                    (&json!(code), &json!(status))
                );
                assert_eq!(body["type"], "about:blank");
                assert!(
                    body["title"].is_string() && body["detail"].is_string(),
                    "{text}"
                );
                assert!(may_have_fields(code, body.get("errors")), "{text}");
            }
            _ => {
                let info = &body["details"][0];
                assert_eq!(
                    (&info["reason"], &info["domain"]),
                    (&json!(code), &json!("storefront"))
                );
                let types = body["details"].as_array().unwrap().iter();
                let types: BTreeSet<_> = types.map(|it| it["@type"].as_str().unwrap()).collect();
                assert_eq!(types.len(), body["details"].as_array().unwrap().len());
                assert_eq!(
                    types.contains("type.googleapis.com/google.rpc.RetryInfo"),
                    waits
                );
            }
        }
        self.seen.insert(code.to_owned());
    }
}

/// What is wrong with which field is said where there are fields: always of a body that keeps to
/// no rule, and of a query where it is one parameter.
fn may_have_fields(code: &str, told: Option<&Value>) -> bool {
    match code {
        "VALIDATION_FAILED" => told.is_some(),
        "MALFORMED_REQUEST" => true,
        _ => told.is_none(),
    }
}

#[tokio::test]
async fn every_error_has_the_one_shape_and_no_secret_in_it_nor_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("c4n4ry.db").display());
    let options = ["--faults", "--order-rate", "1", "--drain-ms", "5000"];
    let mut walk = Walk {
        shop: Shop::start_at(&url, &options),
        seen: BTreeSet::new(),
        clients: 0,
    };
    let order = {
        let mut order = two_of("p1");
        order["customer"] = json!(CANARY);
        order
    };
    let huge = format!("{{\"customer\": \"{}\"}}", CANARY.repeat(12_000));

    walk.each("ROUTE_NOT_FOUND", |it| it.shop.get("/nowhere?c4n4ry"))
        .await;
    walk.each("METHOD_NOT_ALLOWED", |it| {
        it.shop.request("DELETE", "/orders?c4n4ry")
    })
    .await;
    walk.each("PRODUCT_NOT_FOUND", |it| {
        it.shop.get("/products/none?c4n4ry")
    })
    .await;
    walk.each("ORDER_NOT_FOUND", |it| it.shop.get("/orders/none?c4n4ry"))
        .await;
    walk.each("MALFORMED_REQUEST", |it| {
        it.shop.get("/products?limit=c4n4ry")
    })
    .await;
    walk.each("MALFORMED_REQUEST", |it| {
        it.shop.get("/orders?cursor=c4n4ry")
    })
    .await;
    walk.each("MALFORMED_REQUEST", |it| {
        it.order(CANARY).header("content-type", JSON).body(CANARY)
    })
    .await;
    walk.each("UNSUPPORTED_MEDIA_TYPE", |it| it.order(CANARY).body(CANARY))
        .await;
    walk.each("PAYLOAD_TOO_LARGE", |it| {
        it.order(CANARY).body(huge.clone())
    })
    .await;
    walk.each("VALIDATION_FAILED", |it| {
        it.order(CANARY)
            .json(&json!({"customer": {CANARY: CANARY}}))
    })
    .await;
    walk.each("VALIDATION_FAILED", |it| {
        it.order(CANARY)
            .json(&json!({"customer": CANARY, "items": [], "payment_method": "pm_ok"}))
    })
    .await;
    walk.each("IDEMPOTENCY_KEY_MISSING", |it| {
        it.shop.post("/orders").json(&order)
    })
    .await;
    walk.each("IDEMPOTENCY_KEY_INVALID", |it| it.order("").json(&order))
        .await;
    walk.each("VERSION_CONFLICT", |it| {
        let change = it.shop.patch("/products/p1").json(&json!({"name": CANARY}));
        change.header("if-match", "\"c4n4ry\"")
    })
    .await;

    // A client whose two orders of a burst are taken.
    let again = |it: &Walk, order: &Value| {
        let request = it.shop.post("/orders").header("x-api-key", CANARY);
        request.header("idempotency-key", CANARY).json(order)
    };
    assert_eq!(again(&walk, &order).send().await.unwrap().status(), 202);
    let mut other = order.clone();
    other["items"][0]["quantity"] = json!(1);
    let reused = again(&walk, &other)
        .header("accept", JSON)
        .send()
        .await
        .unwrap();
    walk.one("IDEMPOTENCY_KEY_REUSED", JSON, reused).await;
    walk.each("RATE_LIMITED", |it| again(it, &order)).await;

    let quote = |it: &mut Walk| it.shop.get("/shipping-quotes?country=SE&quantity=3&c4n4ry");
    walk.shop.fault("carrier", "hang", 1.0, 0).await;
    let late = quote(&mut walk)
        .header("accept", PROBLEM)
        .send()
        .await
        .unwrap();
    walk.one("UPSTREAM_TIMEOUT", PROBLEM, late).await;
    walk.shop.fault("carrier", "ok", 1.0, 0).await;
    assert_eq!(quote(&mut walk).send().await.unwrap().status(), 200);
    walk.shop.fault("carrier", "error", 1.0, 0).await;
    let failed = quote(&mut walk)
        .header("accept", JSON)
        .send()
        .await
        .unwrap();
    walk.one("UPSTREAM_FAILED", JSON, failed).await;
    for _ in 0..20 {
        if quote(&mut walk).send().await.unwrap().status() == 503 {
            break;
        }
    }
    walk.each("CIRCUIT_OPEN", quote).await;

    // The database answers with an error whose words hold a row.
    let options: SqliteConnectOptions = url.parse().unwrap();
    let mut database = options.connect().await.unwrap();
    database
        .execute(
            "CREATE TRIGGER planted BEFORE INSERT ON orders BEGIN \
             SELECT RAISE(ABORT, 'the row (7, c4n4ry) is refused'); END",
        )
        .await
        .unwrap();
    walk.each("INTERNAL", |it| it.order("internal").json(&order))
        .await;
    // It does not answer, for somebody holds it.
    database.execute("BEGIN IMMEDIATE").await.unwrap();
    let locked = walk.order("locked").json(&order).header("accept", RPC);
    let locked = locked.send().await.unwrap();
    walk.one("UNAVAILABLE", RPC, locked).await;
    database.execute("ROLLBACK").await.unwrap();
    database.close().await.unwrap();

    walk.shop.signal(Signal::SIGTERM);
    while walk.shop.get("/readyz").send().await.unwrap().status() == 200 {}
    walk.each("NOT_READY", |it| it.shop.get("/readyz?c4n4ry"))
        .await;

    let all = CODES.into_iter().map(|(code, _)| code.to_owned());
    // SQLite has one writer, so a second request with a key waits for the first; `keys` shows this
    // one on PostgreSQL.
    let all: BTreeSet<_> = all
        .filter(|code| code != "IDEMPOTENCY_KEY_IN_USE")
        .collect();
    assert_eq!(walk.seen, all);
    let log = walk.shop.log();
    let secrets = log.lines().filter(|line| line.contains(CANARY));
    assert_eq!(secrets.collect::<Vec<_>>(), [""; 0]);
    let failures = log
        .lines()
        .filter(|line| line.contains("the request failed"));
    assert!(
        failures.filter(|line| line.contains("INTERNAL")).count() >= 3,
        "{log}"
    );
}
