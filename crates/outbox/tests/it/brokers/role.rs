//! Consumers that are killed with -9 between their commit and their acknowledgement.

use std::sync::Arc;

use buttress_outbox::{
    Inbox, OutboxStore, Publisher,
    consumer::{Handled, Received, rabbitmq::RabbitConsumer, redis_streams::RedisStreamConsumer},
    publisher::{
        rabbitmq::{RabbitConnection, RabbitPublisher},
        redis_streams::{RedisStreamPublisher, Trim},
    },
};
use buttress_testkit::{
    child::{Child, role},
    tally,
};
use sqlx::{Pool, Postgres};
use tokio::sync::Notify;

use super::{PATIENCE, delivery, message, rabbitmq, redis_streams, soon};
use crate::{
    base,
    lab::{self, Destination, TOPIC},
};

const BROKER: &str = "BUTTRESS_OUTBOX_TEST_BROKER";
const BROKER_URL: &str = "BUTTRESS_OUTBOX_TEST_BROKER_URL";
const NAME: &str = "BUTTRESS_OUTBOX_TEST_NAME";
const DATABASE: &str = "BUTTRESS_OUTBOX_TEST_URL";

fn destination(pool: Pool<Postgres>, store: OutboxStore) -> Destination<Postgres> {
    let inbox = Inbox::new(store, "consumer").unwrap();
    Destination { pool, inbox }
}

/// Consumes until it has committed, and then stands still until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumer_role() {
    let Some(role) = role("consumer") else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let (pool, store) = base::postgres_at(&variable(DATABASE)).await;
    let (destination, role) = (Arc::new(destination(pool, store)), Arc::new(role));
    let handle = move |received: Received| {
        let (destination, role) = (destination.clone(), role.clone());
        async move {
            let id = received.inbox_id();
            let hearing = destination.hear(received.data(), &id);
            hearing.await.unwrap();
            role.announce("committed", received.id());
            std::future::pending::<Handled>().await
        }
    };
    let (url, name) = (variable(BROKER_URL), variable(NAME));
    let never = std::future::pending();
    if variable(BROKER) == "rabbitmq" {
        let connection = RabbitConnection::new(&url).unwrap();
        let consumer = RabbitConsumer::new(&connection, &name).unwrap();
        consumer.run_until(never, handle).await;
    } else {
        let connection = redis_streams::connection(&url).await;
        let consumer = RedisStreamConsumer::new(&connection, &name, TOPIC, "group", "one");
        consumer.unwrap().run_until(never, handle).await;
    }
}

/// Publishes one message, has a consumer killed behind its commit, and then takes it with `consume`,
/// which runs until it is told.
async fn killed_behind_its_commit<Fut: Future<Output = ()>>(
    broker: &str,
    url: &str,
    name: &str,
    publisher: impl Publisher,
    consume: impl FnOnce(
        Arc<Notify>,
        Box<dyn Fn(Received) -> futures_util::future::BoxFuture<'static, Handled> + Send + Sync>,
    ) -> Fut,
) {
    let tally = tally::suite("OB1");
    let Some(base) = base::on_postgres().await else {
        return;
    };
    lab::furnish(&base.pool, 1).await;
    sqlx::query("UPDATE business SET version = 1")
        .execute(&base.pool)
        .await
        .unwrap();
    let sent = publisher
        .publish(&[delivery(1, message("t").json(&(0, 1)))])
        .await;
    assert!(sent[0].is_ok(), "{sent:?}");
    let child = Child::role("consumer", "brokers::role::consumer_role");
    let child = child
        .environment(BROKER, broker)
        .environment(BROKER_URL, url);
    let mut child = child
        .environment(NAME, name)
        .environment(DATABASE, &base.url)
        .spawn();
    let _id = child.until("committed").await;
    child.kill();

    let heard = Arc::new(Notify::new());
    let destination = Arc::new(destination(base.pool.clone(), base.store.clone()));
    let told = heard.clone();
    let handle = move |received: Received| -> futures_util::future::BoxFuture<'static, Handled> {
        let (destination, told) = (destination.clone(), told.clone());
        Box::pin(async move {
            assert!(received.may_have_come_before());
            let id = received.inbox_id();
            let hearing = destination.hear(received.data(), &id);
            hearing.await.unwrap();
            told.notify_one();
            Handled::Done
        })
    };
    let running = consume(heard, Box::new(handle));
    tokio::time::timeout(PATIENCE, running).await.unwrap();
    let seen = lab::check(&base.pool, true).await.unwrap();
    assert_eq!(
        seen.duplicates, 1,
        "it came twice, and its effect was had once"
    );
    tally.operations(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_rabbitmq_that_is_killed_behind_its_commit_has_its_effect_once() {
    let Some((name, bench, connection)) = rabbitmq::fresh().await else {
        return;
    };
    let queue = name.as_str().to_owned();
    bench.queue(&queue, &[]).await;
    let routing = queue.clone();
    let publisher = RabbitPublisher::new(&connection, "").unwrap();
    let publisher = publisher.with_routing(move |_| routing.clone());
    let consume = async |heard: Arc<Notify>, handle| {
        let consumer = RabbitConsumer::new(&connection, &queue).unwrap();
        let consumer = consumer.with_terms(soon());
        consumer.run_until(heard.notified(), handle).await;
    };
    killed_behind_its_commit("rabbitmq", name.url(), &queue, publisher, consume).await;
    assert_eq!(bench.drain(&queue).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_redis_that_is_killed_behind_its_commit_has_its_effect_once() {
    let Some((prefix, connection)) = redis_streams::fresh().await else {
        return;
    };
    let name = redis_streams::prefix_of(&prefix);
    let publisher = RedisStreamPublisher::new(&connection, name, Trim::Nothing).unwrap();
    // It starts again under the same name.
    let consume = async |heard: Arc<Notify>, handle| {
        let consumer = RedisStreamConsumer::new(&connection, name, TOPIC, "group", "one");
        consumer.unwrap().run_until(heard.notified(), handle).await;
    };
    killed_behind_its_commit("redis", prefix.url(), name, publisher, consume).await;
    let pending = redis_streams::pending(&connection, name).await;
    assert_eq!(pending, 0);
}
