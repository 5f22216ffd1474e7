//! The worker as a process: what it delivers, what becomes of it when it dies, and how it stops.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "processes live in real time")]

mod container;
mod process;

use std::time::{Duration, Instant};

use buttress_testkit::{left_out::LeftOut, redis};
use nix::sys::signal::Signal;
use process::Process;
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn worker(database: &str, sink: &Process) -> Process {
    worker_with(database, sink, &[])
}

fn worker_with(database: &str, sink: &Process, more: &[(&str, &str)]) -> Process {
    let sink = sink.address();
    let webhooks = format!("http://{sink}/webhooks");
    let api = format!("http://{sink}");
    let told = [
        ("WORKER_DATABASE_URL", database),
        ("WORKER_WEBHOOK_URL", &webhooks),
        ("WORKER_WEBHOOK_SECRET", SECRET),
        ("WORKER_WEBHOOK_PRIVATE", "true"),
        ("WORKER_API_URL", &api),
    ];
    Process::listening(&["run", "--listen", "127.0.0.1:0"], &[&told, more].concat())
}

fn sink() -> Process {
    Process::listening(
        &["sink", "--listen", "127.0.0.1:0"],
        &[("WORKER_WEBHOOK_SECRET", SECRET)],
    )
}

fn place(database: &str, orders: u32) {
    let orders = orders.to_string();
    let placed = Process::ended(
        &["place", "--orders", &orders],
        &[("WORKER_DATABASE_URL", database)],
    );
    assert!(placed.success());
}

async fn until_taken(sink: &Process, orders: u32) {
    let wanted = json!({"webhook": orders, "charge": orders, "cancel": 0, "ship": orders});
    let begun = Instant::now();
    loop {
        let taken: Value = sink.get("/taken").await.1.parse().unwrap();
        if taken == wanted {
            return;
        }
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(60), "{taken} after {waited:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_another_process_wrote_down_is_delivered_and_done_and_the_probes_tell_of_it() {
    let Some(database) = buttress_testkit::postgres::fresh_database().await else {
        return;
    };
    let (url, sink) = (database.url().to_owned(), sink());
    let worker = worker(&url, &sink);
    place(&url, 20);
    until_taken(&sink, 20).await;
    assert_eq!(worker.get("/healthz").await.0, 200);
    assert_eq!(worker.get("/readyz").await.0, 200);
    let metrics = worker.get("/metrics").await.1;
    for series in ["buttress_outbox_", "buttress_saga_"] {
        assert!(metrics.contains(series), "{series} is not in\n{metrics}");
    }
    assert!(worker.stop(Signal::SIGTERM).success());
    drop(sink);
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_is_killed_is_replaced_and_nothing_is_left_or_done_twice() {
    let Some(database) = buttress_testkit::postgres::fresh_database().await else {
        return;
    };
    let (url, sink) = (database.url().to_owned(), sink());
    let first = worker(&url, &sink);
    place(&url, 10);
    assert!(!first.stop(Signal::SIGKILL).success());
    let second = worker(&url, &sink);
    place(&url, 10);
    until_taken(&sink, 20).await;
    drop((second, sink));
    database.close().await.unwrap();
}

#[tokio::test]
async fn workers_share_what_they_see_over_redis_and_work_on_without_it() {
    let Some(database) = buttress_testkit::postgres::fresh_database().await else {
        return;
    };
    let redis = match redis::Server::start() {
        Ok(redis) => redis,
        Err(redis::StartError::NotFound(why)) => {
            return LeftOut::new("workers on Redis", why.to_string()).register();
        }
        Err(error) => panic!("{error}"),
    };
    let (url, sink) = (database.url().to_owned(), sink());
    let worker = worker_with(&url, &sink, &[("WORKER_REDIS_URL", &redis.url())]);
    let shared = r#"buttress_circuit_breaker_fleet_rounds_total{fleet="worker",result="shared"}"#;
    let begun = Instant::now();
    while !worker.get("/metrics").await.1.contains(shared) {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(60), "no round in {waited:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(redis);
    place(&url, 5);
    until_taken(&sink, 5).await;
    assert!(worker.stop(Signal::SIGTERM).success());
    drop(sink);
    database.close().await.unwrap();
}

#[test]
fn a_secret_that_is_none_is_refused_at_the_start_and_not_shown() {
    let (status, said) = Process::failed(
        &["sink", "--listen", "127.0.0.1:0"],
        &[("WORKER_WEBHOOK_SECRET", "hunter2")],
    );
    assert!(!status.success());
    assert!(
        said.contains("WORKER_WEBHOOK_SECRET") && !said.contains("hunter2"),
        "{said}"
    );
}
