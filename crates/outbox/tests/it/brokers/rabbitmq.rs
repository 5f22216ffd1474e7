//! RabbitMQ that works, and that is killed: nothing is lost or overtaken, each effect is had once.

use std::sync::{Arc, Mutex};

use buttress_outbox::{
    Publisher as _,
    consumer::{Handled, Received, rabbitmq::RabbitConsumer},
    publisher::rabbitmq::{
        RabbitConnection, RabbitPublisher,
        lapin::{
            Channel, Connection, ConnectionProperties, ExchangeKind,
            options::{
                BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
            },
            types::{AMQPValue, FieldTable},
        },
    },
};
use buttress_testkit::{
    left_out::LeftOut,
    rabbitmq::{self, Name, Server},
    short_or_long,
    tally::{self, Store},
};
use tokio::sync::Notify;

use super::{PATIENCE, Story, delivery, message, soon};
use crate::base;

/// A user's own channel, to declare queues and to look into them.
pub(super) struct Bench {
    _connection: Connection,
    pub(super) channel: Channel,
}

impl Bench {
    pub(super) async fn at(url: &str) -> Self {
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(url, properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self {
            _connection: connection,
            channel,
        }
    }

    /// A durable queue.
    pub(super) async fn queue(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let declaring = self.channel.queue_declare(name.into(), options, table);
        declaring.await.unwrap();
    }

    /// A durable topic exchange.
    pub(super) async fn exchange(&self, name: &str) {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Topic;
        let arguments = FieldTable::default();
        let declaring = self
            .channel
            .exchange_declare(name.into(), kind, options, arguments);
        declaring.await.unwrap();
    }

    pub(super) async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let options = QueueBindOptions::default();
        let arguments = FieldTable::default();
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        let binding = self
            .channel
            .queue_bind(queue, exchange, key, options, arguments);
        binding.await.unwrap();
    }

    /// The ids of what is in a queue, which is empty then.
    pub(super) async fn drain(&self, queue: &str) -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            let options = BasicGetOptions { no_ack: true };
            let message = self.channel.basic_get(queue.into(), options).await.unwrap();
            let Some(message) = message else {
                return ids;
            };
            let id = message.properties.message_id().as_ref().unwrap();
            ids.push(id.as_str().to_owned());
        }
    }
}

pub(super) async fn fresh() -> Option<(Name, Bench, RabbitConnection)> {
    let name = tokio::task::spawn_blocking(rabbitmq::fresh_name)
        .await
        .unwrap()?;
    // Taken on another thread, which has no suite.
    tally::uses(Store::Rabbitmq);
    let bench = Bench::at(name.url()).await;
    let connection = RabbitConnection::new(name.url()).unwrap();
    Some((name, bench, connection))
}

/// A server of the test's own.
pub(super) async fn server(tests: &str) -> Option<Arc<Server>> {
    let starting = tokio::task::spawn_blocking(Server::start);
    match starting.await.unwrap() {
        Ok(server) => {
            tally::uses(Store::Rabbitmq);
            Some(Arc::new(server))
        }
        Err(rabbitmq::StartError::NotFound(not_found)) => {
            LeftOut::new(tests, not_found.to_string()).register();
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

fn consume(story: &mut Story, url: &str, queue: &str) {
    let connection = RabbitConnection::new(url).unwrap();
    let consumer = RabbitConsumer::new(&connection, queue).unwrap();
    let consumer = consumer.with_terms(soon());
    let handler = story.handler();
    story
        .tasks
        .spawn(async move { consumer.run_until(std::future::pending(), handler).await });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob5_a_rabbitmq_that_is_killed_loses_nothing_that_it_confirmed_and_charges_no_attempt() {
    let tally = tally::suite("OB5 X5");
    let Some(server) = server("a RabbitMQ that is killed").await else {
        return;
    };
    let Some(base) = base::on_postgres().await else {
        return;
    };
    // Queue and topic are called alike: the default exchange brings one to the other.
    let queue = crate::lab::TOPIC;
    Bench::at(&server.url()).await.queue(queue, &[]).await;
    let url = server.url();
    let mut story = Story::begin(base, || {
        let connection = RabbitConnection::new(&url).unwrap();
        RabbitPublisher::new(&connection, "").unwrap()
    })
    .await;
    consume(&mut story, &url, queue);
    // It takes seconds to start.
    let kills = short_or_long(2, 50);
    for _ in 0..kills {
        story.more_has_its_effect(50).await;
        let victim = server.clone();
        blocking(move || victim.kill()).await;
        story.more_are_committed(50).await;
        let victim = server.clone();
        blocking(move || victim.restart().unwrap()).await;
    }
    story.more_has_its_effect(100).await;
    let seen = story.end().await;
    println!(
        "{} messages, {kills} kills of RabbitMQ, {} heard twice",
        seen.committed, seen.duplicates
    );
    tally.kills(kills);
    tally.operations(seen.committed);
    blocking(move || drop(server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_through_rabbitmq_with_several_relays() {
    let Some((name, bench, _)) = fresh().await else {
        return;
    };
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let (exchange, queue) = (name.as_str(), name.as_str());
    bench.exchange(exchange).await;
    bench.queue(queue, &[]).await;
    bench.bind(queue, exchange, "#").await;
    let mut story = Story::begin(base, || {
        let connection = RabbitConnection::new(name.url()).unwrap();
        RabbitPublisher::new(&connection, exchange).unwrap()
    })
    .await;
    consume(&mut story, name.url(), queue);
    story.more_has_its_effect(150).await;
    let seen = story.end().await;
    // Without a crash, nothing comes twice.
    assert_eq!(seen.duplicates, 0, "{seen:?}");
}

/// What a handler has seen: an id, and whether the broker thought that it had been given before.
type Log = Arc<Mutex<Vec<(String, bool)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_come_again_comes_before_what_is_behind_it_and_what_never_will_is_put_aside() {
    let Some((name, bench, connection)) = fresh().await else {
        return;
    };
    let (queue, dead) = (name.as_str(), format!("{}-dead", name.as_str()));
    bench.queue(&dead, &[]).await;
    let text = |text: &str| AMQPValue::LongString(text.into());
    let arguments = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&dead)),
    ];
    bench.queue(queue, &arguments).await;
    let routing = queue.to_owned();
    let publisher = RabbitPublisher::new(&connection, "").unwrap();
    let publisher = publisher.with_routing(move |_| routing.clone());
    for n in 1..=5 {
        let sent = publisher
            .publish(&[delivery(n, message("t").id(n.to_string()))])
            .await;
        assert!(sent[0].is_ok(), "{sent:?}");
    }
    let (log, done) = (Log::default(), Arc::new(Notify::new()));
    let handler = {
        let (log, done) = (log.clone(), done.clone());
        move |received: Received| {
            let mut log = log.lock().unwrap();
            let id = received.id().to_owned();
            let times = log.iter().filter(|(it, _)| *it == id).count();
            log.push((id.clone(), received.may_have_come_before()));
            if id == "5" {
                done.notify_one();
            }
            std::future::ready(match (&*id, times) {
                ("2", 0 | 1) => Handled::Again,
                ("4", _) => Handled::Never,
                _ => Handled::Done,
            })
        }
    };
    let consumer = RabbitConsumer::new(&connection, queue).unwrap();
    let consumer = consumer.with_terms(soon());
    let running = consumer.run_until(done.notified(), handler);
    tokio::time::timeout(PATIENCE, running).await.unwrap();
    let seen: Vec<String> = log
        .lock()
        .unwrap()
        .iter()
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(seen, ["1", "2", "2", "2", "3", "4", "5"]);
    assert!(
        log.lock().unwrap()[2].1,
        "the broker knows that it had been given"
    );
    assert_eq!(bench.drain(queue).await, Vec::<String>::new());
    assert_eq!(bench.drain(&dead).await, ["4"]);
}
