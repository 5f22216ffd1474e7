//! Redis Streams that work, and that are killed; groups whose members die.

use std::sync::{Arc, Mutex};

use ::redis::{
    Client, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use buttress_outbox::{
    Publisher as _,
    consumer::{Handled, Received, redis_streams::RedisStreamConsumer},
    publisher::redis_streams::{RedisStreamPublisher, Trim},
};
use buttress_store::RedisConnection;
use buttress_testkit::{
    eventually,
    left_out::LeftOut,
    redis::{self, Prefix, Server},
    short_or_long,
    tally::{self, Store},
};
use tokio::sync::Notify;

use super::{PATIENCE, SOON, Story, delivery, message, soon};
use crate::{base, lab::TOPIC};

/// A connection that finds its way back, with deadlines that a loaded machine keeps.
pub(super) async fn connection(url: &str) -> RedisConnection {
    let client = Client::open(url).unwrap();
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_max_delay(SOON)
        .set_response_timeout(Some(std::time::Duration::from_secs(5)));
    let manager = ConnectionManager::new_with_config(client, config).await;
    RedisConnection::new(manager.unwrap())
}

pub(super) async fn fresh() -> Option<(Prefix, RedisConnection)> {
    let prefix = tokio::task::spawn_blocking(redis::fresh_prefix)
        .await
        .unwrap()?;
    // Taken on another thread, which has no suite.
    tally::uses(Store::Redis);
    let connection = connection(prefix.url()).await;
    Some((prefix, connection))
}

/// Without the colon at its end.
pub(super) fn prefix_of(prefix: &Prefix) -> &str {
    prefix.as_str().trim_end_matches(':')
}

pub(super) fn stream(prefix: &str) -> String {
    format!("{prefix}:stream:{{{TOPIC}}}")
}

/// A server of the test's own.
pub(super) async fn server(
    tests: &str,
    start: fn() -> Result<Server, redis::StartError>,
) -> Option<Arc<Server>> {
    match tokio::task::spawn_blocking(start).await.unwrap() {
        Ok(server) => {
            tally::uses(Store::Redis);
            Some(Arc::new(server))
        }
        Err(redis::StartError::NotFound(not_found)) => {
            LeftOut::new(tests, not_found.to_string()).register();
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(super) async fn ask<T: ::redis::FromRedisValue>(
    connection: &RedisConnection,
    words: &[&str],
) -> T {
    let mut command = ::redis::cmd(words[0]);
    command.arg(&words[1..]);
    let mut connection = connection.clone();
    command.query_async(&mut connection).await.unwrap()
}

/// How many entries the group has been given and has not acknowledged.
pub(super) async fn pending(connection: &RedisConnection, prefix: &str) -> i64 {
    let answer: Vec<Value> = ask(connection, &["XPENDING", &stream(prefix), "group"]).await;
    match answer[0] {
        Value::Int(pending) => pending,
        _ => panic!("{answer:?}"),
    }
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob5_a_redis_that_is_killed_loses_nothing_that_its_log_has_and_charges_no_attempt() {
    let tally = tally::suite("OB5 X5 X9");
    let starting = server("a Redis that is killed", Server::start_appending);
    let Some(server) = starting.await else {
        return;
    };
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let connections = [
        connection(&server.url()).await,
        connection(&server.url()).await,
    ];
    let trim = Trim::Longer(1_000_000);
    let mut story = Story::begin(base, || {
        RedisStreamPublisher::new(&connections[0], "lab", trim).unwrap()
    })
    .await;
    let consumer = RedisStreamConsumer::new(&connections[1], "lab", TOPIC, "group", "one");
    let consumer = consumer.unwrap().with_terms(soon());
    let handler = story.handler();
    story
        .tasks
        .spawn(async move { consumer.run_until(std::future::pending(), handler).await });
    let kills = short_or_long(5, 50);
    for _ in 0..kills {
        story.more_has_its_effect(40).await;
        let victim = server.clone();
        blocking(move || victim.kill()).await;
        story.more_are_committed(40).await;
        let victim = server.clone();
        blocking(move || victim.restart().unwrap()).await;
    }
    story.more_has_its_effect(100).await;
    let seen = story.end().await;
    println!(
        "{} messages, {kills} kills of Redis, {} heard twice",
        seen.committed, seen.duplicates
    );
    tally.kills(kills);
    tally.operations(seen.committed);
    blocking(move || drop(server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_through_redis_with_several_relays() {
    let Some((prefix, publishing)) = fresh().await else {
        return;
    };
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let consuming = connection(prefix.url()).await;
    let prefix = prefix_of(&prefix);
    let mut story = Story::begin(base, || {
        RedisStreamPublisher::new(&publishing, prefix, Trim::Nothing).unwrap()
    })
    .await;
    let consumer = RedisStreamConsumer::new(&consuming, prefix, TOPIC, "group", "one").unwrap();
    let handler = story.handler();
    story
        .tasks
        .spawn(async move { consumer.run_until(std::future::pending(), handler).await });
    story.more_has_its_effect(150).await;
    let seen = story.end().await;
    assert_eq!(seen.duplicates, 0, "{seen:?}");
}

async fn publish(connection: &RedisConnection, prefix: &str, ids: std::ops::RangeInclusive<i64>) {
    let publisher = RedisStreamPublisher::new(connection, prefix, Trim::Nothing).unwrap();
    let batch: Vec<_> = ids
        .map(|n| delivery(n, message("t").id(n.to_string())))
        .collect();
    let sent = publisher.publish(&batch).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_consumer_has_read_is_taken_over_by_another() {
    let Some((prefix, connection)) = fresh().await else {
        return;
    };
    let prefix = prefix_of(&prefix);
    publish(&connection, prefix, 0..=4).await;
    let begun = Notify::new();
    let dies = RedisStreamConsumer::new(&connection, prefix, TOPIC, "group", "dies").unwrap();
    let handler = |received: Received| {
        let is_first = received.id() == "0";
        if !is_first {
            begun.notify_one();
        }
        async move {
            if !is_first {
                std::future::pending::<()>().await;
            }
            Handled::Done
        }
    };
    // It is dropped in the middle of the second message, and has read all that are left.
    tokio::select! {
        () = dies.run_until(std::future::pending(), handler) => unreachable!(),
        () = begun.notified() => {}
    }
    assert_eq!(pending(&connection, prefix).await, 4);
    let (seen, done) = (Mutex::new(Vec::new()), Notify::new());
    let handler = |received: Received| {
        let mut seen = seen.lock().unwrap();
        seen.push((received.id().to_owned(), received.may_have_come_before()));
        if seen.len() == 4 {
            done.notify_one();
        }
        std::future::ready(Handled::Done)
    };
    let lives = RedisStreamConsumer::new(&connection, prefix, TOPIC, "group", "lives").unwrap();
    let lives = lives.with_lapse(SOON).unwrap();
    let running = lives.run_until(done.notified(), handler);
    tokio::time::timeout(PATIENCE, running).await.unwrap();
    let expected = ["1", "2", "3", "4"].map(|id| (id.to_owned(), true));
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(pending(&connection, prefix).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_come_again_comes_first_and_what_never_will_is_moved() {
    let Some((prefix, connection)) = fresh().await else {
        return;
    };
    let prefix = prefix_of(&prefix);
    publish(&connection, prefix, 1..=5).await;
    let strange: String = ask(
        &connection,
        &["XADD", &stream(prefix), "*", "not", "an event"],
    )
    .await;
    assert!(strange.contains('-'));
    publish(&connection, prefix, 6..=6).await;
    let (seen, done) = (Mutex::new(Vec::new()), Notify::new());
    let handler = |received: Received| {
        let mut seen = seen.lock().unwrap();
        let id = received.id().to_owned();
        let times = seen.iter().filter(|it| **it == id).count();
        seen.push(id.clone());
        if id == "6" {
            done.notify_one();
        }
        std::future::ready(match (&*id, times) {
            ("2", 0 | 1) => Handled::Again,
            ("4", _) => Handled::Never,
            _ => Handled::Done,
        })
    };
    let consumer = RedisStreamConsumer::new(&connection, prefix, TOPIC, "group", "one").unwrap();
    let consumer = consumer.with_terms(soon());
    let running = consumer.run_until(done.notified(), handler);
    tokio::time::timeout(PATIENCE, running).await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        ["1", "2", "2", "2", "3", "4", "5", "6"]
    );
    let dead = format!("{}:dead", stream(prefix));
    let count: i64 = ask(&connection, &["XLEN", &dead]).await;
    assert_eq!(
        count, 2,
        "the one that was given up, and the one that is no event"
    );
    eventually("all is acknowledged", PATIENCE, async || {
        (pending(&connection, prefix).await == 0).then_some(())
    })
    .await;
}
