//! How many orders one client may place: alone, over several instances, and while Redis is away.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use buttress_testkit::{
    eventually,
    left_out::LeftOut,
    proxy::{Proxy, Way},
    redis::{self, Server},
};
use reqwest::{Response, StatusCode};
use serde_json::json;

use crate::shop::{Database, Shop, error, two_of};

/// The client of most tests, by his key.
const ADA: Option<&str> = Some("ada");

/// Sends an order of a client: by his key, or else by his address.
async fn send(shop: &Shop, client: Option<&str>, key: &str) -> Response {
    let mut request = shop.post("/orders").header("idempotency-key", key);
    if let Some(client) = client {
        request = request.header("x-api-key", client);
    }
    request.json(&two_of("p1")).send().await.unwrap()
}

/// Sends so many orders of a client all at once, and says how many were taken.
async fn taken(shop: &Shop, client: Option<&str>, orders: usize) -> usize {
    let keys: Vec<_> = (0..orders).map(|_| fresh_key()).collect();
    let sends = keys.iter().map(|key| send(shop, client, key));
    let answers = futures_util::future::join_all(sends).await;
    let statuses = answers.iter().map(Response::status);
    let odd = |status: &StatusCode| !matches!(status.as_u16(), 202 | 429);
    assert_eq!(statuses.clone().find(odd), None);
    statuses.filter(|status| *status == 202).count()
}

fn fresh_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

/// What the fields say: how many are left, and after how many seconds there are more.
fn told(response: &Response, burst: u64) -> (u64, u64) {
    let policy = format!("\"orders\";q={burst};w=2");
    assert_eq!(header(response, "ratelimit-policy"), policy);
    let limit = header(response, "ratelimit");
    let rest = limit.strip_prefix("\"orders\";r=").unwrap();
    let (left, reset) = rest.split_once(";t=").unwrap();
    (left.parse().unwrap(), reset.parse().unwrap())
}

fn shop(database: &Database, rate: &str) -> Shop {
    Shop::start_with(database, &["--faults", "--order-rate", rate])
}

/// An instance that shares its rates.
fn sharing(database: &Database, rate: &str, redis: &str) -> Shop {
    let options = ["--faults", "--order-rate", rate, "--redis-url", redis];
    Shop::start_with(database, &options)
}

/// A Redis of the test's own, for it is killed.
fn own_redis(test: &'static str) -> Option<Server> {
    if let Err(missing) = redis::find() {
        LeftOut::new(test, missing.to_string()).register();
        return None;
    }
    Some(Server::start().unwrap())
}

#[tokio::test]
async fn a_client_has_his_burst_then_is_told_when_to_come_back_and_others_notice_nothing() {
    let database = Database::sqlite();
    let shop = shop(&database, "1");
    let first = send(&shop, ADA, "first").await;
    assert_eq!(first.status(), 202);
    assert_eq!(told(&first, 2).0, 1);
    // The burst is two, and at most one more flows in each second that this takes.
    let begun = Instant::now();
    let mut refused = Vec::new();
    while refused.len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "never refused");
        let answer = send(&shop, ADA, &fresh_key()).await;
        if answer.status() == 429 {
            refused.push(answer);
        } else {
            assert_eq!(answer.status(), 202);
        }
    }
    for answer in refused {
        assert_eq!(header(&answer, "retry-after"), "1");
        assert_eq!(told(&answer, 2), (0, 1));
        error(answer, 429, "RATE_LIMITED").await;
    }
    // The last is no address at all, but a key.
    for client in [Some("eve"), None, Some("127.0.0.1")] {
        assert_eq!(taken(&shop, client, 2).await, 2, "{client:?}");
    }
}

/// Route and method, 413, 415, key, rate, JSON, validation, key reused, key in use.
#[tokio::test]
async fn the_rate_is_looked_at_after_the_key_and_before_the_body() {
    let database = Database::sqlite();
    let shop = shop(&database, "1");
    let keyed = || {
        let request = shop.post("/orders").header("x-api-key", "ada");
        request.header("idempotency-key", "k")
    };
    let json = "application/json";
    let large = || {
        keyed()
            .header("content-type", json)
            .body("x".repeat(70_000))
    };
    let text = || keyed().header("content-type", "text/plain").body("{}");
    let keyless = || {
        let request = shop.post("/orders").header("x-api-key", "ada");
        request.json(&two_of("p1"))
    };
    let broken = || keyed().header("content-type", json).body("{");
    let invalid = || keyed().json(&json!({ "customer": "", "items": [] }));
    for _ in 0..3 {
        // None of these costs anything, however often it comes.
        error(large().send().await.unwrap(), 413, "PAYLOAD_TOO_LARGE").await;
        error(text().send().await.unwrap(), 415, "UNSUPPORTED_MEDIA_TYPE").await;
        let missing = keyless().send().await.unwrap();
        error(missing, 400, "IDEMPOTENCY_KEY_MISSING").await;
        let get = shop.get("/orders").header("x-api-key", "ada");
        assert_eq!(get.send().await.unwrap().status(), 200);
    }
    // These cost one each.
    error(broken().send().await.unwrap(), 400, "MALFORMED_REQUEST").await;
    error(invalid().send().await.unwrap(), 422, "VALIDATION_FAILED").await;
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(10), "never refused");
        // What would be refused by itself is refused for its rate.
        let answers = [
            broken().send().await.unwrap(),
            invalid().send().await.unwrap(),
        ];
        if answers.iter().all(|answer| answer.status() == 429) {
            break;
        }
    }
    error(large().send().await.unwrap(), 413, "PAYLOAD_TOO_LARGE").await;
    error(text().send().await.unwrap(), 415, "UNSUPPORTED_MEDIA_TYPE").await;
    let missing = keyless().send().await.unwrap();
    error(missing, 400, "IDEMPOTENCY_KEY_MISSING").await;
}

#[test]
fn a_rate_that_cannot_work_is_refused_at_the_start() {
    let start = |rate: &str, redis: &str| {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_storefront"));
        serve.args(["serve", "--listen", "127.0.0.1:0"]);
        serve.env("STOREFRONT_ORDER_RATE", rate);
        serve.env("STOREFRONT_REDIS_URL", redis);
        serve.env("STOREFRONT_DATABASE_URL", "sqlite://nowhere/at/all.db");
        let output = serve.output().unwrap();
        assert!(!output.status.success(), "{rate} {redis}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    for rate in ["0", "-1", "1.5", "100001", "many", ""] {
        let told = start(rate, "redis://localhost");
        assert!(told.contains("--order-rate"), "{rate}: {told}");
    }
}

#[tokio::test]
async fn a_redis_url_that_cannot_be_read_is_refused_without_its_password() {
    let database = Database::sqlite();
    let refused = Command::new(env!("CARGO_BIN_EXE_storefront"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("STOREFRONT_DATABASE_URL", database.url())
        .env("STOREFRONT_REDIS_URL", "http://shop:hunter2@localhost")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(refused.stdout.is_empty());
    let log = String::from_utf8(refused.stderr).unwrap();
    assert!(log.contains("the Redis URL cannot be read"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn the_rate_is_taken_from_the_environment() {
    let database = Database::sqlite();
    let shop = Shop::spawn_with_env(&database, "STOREFRONT_ORDER_RATE", "7").ready();
    assert_eq!(told(&send(&shop, ADA, "k").await, 14), (13, 1));
}

/// Over both never more than the bucket and what flowed in, and most of that.
#[tokio::test]
async fn two_instances_on_one_redis_give_out_one_rate_and_most_of_it() {
    let Some(server) = own_redis("two instances on one Redis") else {
        return;
    };
    let database = Database::sqlite();
    let shops = [(); 2].map(|()| sharing(&database, "10", &server.url()));
    let begun = Instant::now();
    let end = begun + Duration::from_secs(4);
    let customers = (0..6).map(|number| {
        let shop = &shops[number % 2];
        async move {
            let mut taken = 0;
            while Instant::now() < end {
                let answer = send(shop, ADA, &fresh_key()).await;
                match answer.status().as_u16() {
                    202 => taken += 1,
                    429 => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => panic!("{other}"),
                }
            }
            taken
        }
    });
    let taken: u32 = futures_util::future::join_all(customers).await.iter().sum();
    let all = 20.0 + 10.0 * begun.elapsed().as_secs_f64();
    let taken = f64::from(taken);
    assert!(taken <= all, "{taken} of {all}");
    assert!(taken >= 0.6 * all, "{taken} of {all}");
    let degraded = shops[0].read("/readyz").await["data"]["degraded"].take();
    assert_eq!(degraded, json!([]));
    // What one has used up the other does not give.
    spent(&shops[0], &shops[1]).await;
}

/// Checks that the two share: what one took is gone at the other.
async fn spent(one: &Shop, other: &Shop) {
    let client = fresh_key();
    let begun = Instant::now();
    let took = taken(one, Some(&client), 60).await + taken(other, Some(&client), 60).await;
    let most = 20.0 + 10.0 * begun.elapsed().as_secs_f64();
    let took = f64::from(u32::try_from(took).unwrap());
    assert!((20.0..=most).contains(&took), "{took}, at most {most}");
}

#[tokio::test]
async fn without_redis_orders_go_on_by_each_instances_own_rate_and_it_is_found_again() {
    let Some(server) = own_redis("Redis killed under the shop") else {
        return;
    };
    let database = Database::sqlite();
    let shops = [(); 2].map(|()| sharing(&database, "10", &server.url()));
    assert_eq!(
        shops[0].read("/readyz").await["data"]["degraded"],
        json!([])
    );
    spent(&shops[0], &shops[1]).await;

    server.kill();
    for shop in &shops {
        let ready = shop.read("/readyz").await;
        assert_eq!(ready["data"]["degraded"], json!(["redis"]), "{ready}");
        let asked = Instant::now();
        let client = fresh_key();
        let took = taken(shop, Some(&client), 60).await;
        let most = 20.0 + 10.0 * asked.elapsed().as_secs_f64();
        let took = f64::from(u32::try_from(took).unwrap());
        assert!((20.0..=most).contains(&took), "{took}, at most {most}");
        let answer = send(shop, Some(&client), &fresh_key()).await;
        told(&answer, 20);
    }

    server.restart().unwrap();
    for shop in &shops {
        found_again(shop).await;
    }
    spent(&shops[0], &shops[1]).await;
}

async fn found_again(shop: &Shop) {
    eventually(
        "Redis is found again",
        Duration::from_secs(10),
        async || {
            let ready = shop.read("/readyz").await;
            (ready["data"]["degraded"] == json!([])).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_redis_that_was_never_there_keeps_nobody_from_starting() {
    let Some(server) = own_redis("a start without Redis") else {
        return;
    };
    server.kill();
    let database = Database::sqlite();
    let started = Instant::now();
    let shops = [(); 2].map(|()| sharing(&database, "10", &server.url()));
    assert!(started.elapsed() < Duration::from_secs(30));
    let ready = shops[0].read("/readyz").await;
    assert_eq!(ready["data"]["degraded"], json!(["redis"]), "{ready}");
    assert_eq!(taken(&shops[0], ADA, 5).await, 5);
    server.restart().unwrap();
    for shop in &shops {
        found_again(shop).await;
    }
    spent(&shops[0], &shops[1]).await;
}

/// One that takes everything and answers nothing.
#[tokio::test]
async fn a_redis_that_hangs_costs_an_order_half_a_second_and_the_next_ones_nothing() {
    let Some(server) = own_redis("a Redis that hangs") else {
        return;
    };
    let (proxy, url) = Proxy::before(&server.url()).await.unwrap();
    let database = Database::sqlite();
    let shop = sharing(&database, "10", &url);
    assert_eq!(shop.read("/readyz").await["data"]["degraded"], json!([]));
    proxy.black_hole(Way::ToClient);
    assert_eq!(taken(&shop, ADA, 10).await, 10);
    // One that asks, and a probe each second or two after it, pay the deadline. The others do not even ask.
    let mut times = Vec::new();
    for _ in 0..15 {
        let (client, asked) = (fresh_key(), Instant::now());
        assert_eq!(send(&shop, Some(&client), &fresh_key()).await.status(), 202);
        times.push(asked.elapsed());
    }
    times.sort();
    assert!(times[7] < Duration::from_millis(500), "{times:?}");
    let ready = shop.read("/readyz").await;
    assert_eq!(ready["data"]["degraded"], json!(["redis"]), "{ready}");
    proxy.heal().await.unwrap();
    found_again(&shop).await;
    assert_eq!(taken(&shop, Some("grace"), 5).await, 5);
}
