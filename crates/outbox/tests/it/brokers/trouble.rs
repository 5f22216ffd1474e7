//! Consumers in trouble: a place that is deleted under them, a broker that stands still, one that
//! is away at a stop, a group whose members die beside others that live.

use std::{sync::Mutex, time::Duration};

use async_nats::{ConnectOptions, jetstream};
use buttress_outbox::{
    consumer::{Handled, Received, Terms, nats::NatsConsumer, redis_streams::RedisStreamConsumer},
    publisher::rabbitmq::lapin::{options::QueueDeleteOptions, types::AMQPValue},
};
use buttress_retry_backoff::Backoff;
use buttress_store::RedisConnection;
use buttress_testkit::{
    eventually,
    proxy::{Proxy, Way},
};
use redis::{
    Client, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    PATIENCE,
    each::{Broker, Lapse},
    log::Log,
    redis_streams, soon,
};
use crate::lab::TOPIC;

const DURABLE: &str = "consumer";
const GROUP: &str = "group";

async fn within<T>(running: impl Future<Output = T>) -> T {
    timeout(PATIENCE, Box::pin(running)).await.unwrap()
}

/// The same test on each broker, where nothing lapses.
macro_rules! on_each {
    ($($test:ident: $scenario:path;)*) => {
        $(mod $test {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_nats() {
                if let Some(broker) = Broker::nats(Lapse::NEVER).await {
                    Box::pin($scenario(broker)).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_rabbitmq() {
                if let Some(broker) = Broker::rabbit(&[]).await {
                    Box::pin($scenario(broker)).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_redis() {
                if let Some(broker) = Broker::redis(Lapse::NEVER).await {
                    Box::pin($scenario(broker)).await;
                }
            }
        })*
    };
}

on_each! {
    what_a_stop_gives_back_goes_to_whoever_waits: handed_over;
    a_consumer_whose_place_is_deleted_goes_on_when_there_is_one_again: deleted;
}

/// A member of the group has been waiting when another stops.
async fn handed_over(broker: Broker) {
    broker.publish(1..=10).await;
    let (first, second) = (Log::default(), Log::default());
    let [begun, has_all, go_on, stop, done] = [(); 5].map(|()| Notify::new());
    let handle = |received: Received| {
        let (id, _) = first.add(&received);
        let (begun, has_all, go_on) = (&begun, &has_all, &go_on);
        async move {
            if id == 2 {
                begun.notify_one();
                has_all.notify_one();
                go_on.notified().await;
            }
            Handled::Done
        }
    };
    let other = |received: Received| {
        second.add(&received);
        std::future::ready(Handled::Done)
    };
    let one = broker.consumer("one").await;
    let two = broker.consumer("two").await;
    let stopping = async {
        begun.notified().await;
        // Until the other has seen that there is nothing for it.
        sleep(Duration::from_secs(1)).await;
        stop.notify_one();
        go_on.notify_one();
    };
    let waiting = async {
        has_all.notified().await;
        two.run(soon(), done.notified(), other).await;
    };
    let all = async {
        second.has(8).await;
        done.notify_one();
    };
    let first_one = one.run(soon(), stop.notified(), handle);
    within(async { tokio::join!(first_one, stopping, waiting, all) }).await;
    assert_eq!(first.all().into_keys().collect::<Vec<_>>(), [1, 2]);
    let expected: Vec<_> = (3..=10).map(|id| (id, 1)).collect();
    assert_eq!(second.all().into_iter().collect::<Vec<_>>(), expected);
}

/// Somebody deletes it while a message is handled, and another time while there is none.
async fn deleted(broker: Broker) {
    broker.publish(1..=3).await;
    let log = Log::default();
    let (begun, go_on, done) = (Notify::new(), Notify::new(), Notify::new());
    let handle = |received: Received| {
        let (id, times) = log.add(&received);
        let (begun, go_on) = (&begun, &go_on);
        async move {
            if id == 2 && times == 1 {
                begun.notify_one();
                go_on.notified().await;
            }
            Handled::Done
        }
    };
    let consumer = broker.consumer("one").await;
    let running = consumer.run(soon(), done.notified(), handle);
    let deleting = async {
        begun.notified().await;
        delete(&broker).await;
        go_on.notify_one();
        sleep(Duration::from_secs(1)).await;
        make(&broker).await;
        broker.publish(4..=6).await;
        has(&log, 4..=6).await;
        delete(&broker).await;
        sleep(Duration::from_secs(1)).await;
        make(&broker).await;
        broker.publish(7..=9).await;
        has(&log, 7..=9).await;
        eventually("nothing waits", PATIENCE, async || {
            broker.is_empty().await.then_some(())
        })
        .await;
        done.notify_one();
    };
    within(async { tokio::join!(running, deleting) }).await;
}

async fn has(log: &Log, ids: std::ops::RangeInclusive<i64>) {
    eventually("all of these came", PATIENCE, async || {
        let all = log.all();
        ids.clone().all(|id| all.contains_key(&id)).then_some(())
    })
    .await;
}

/// The consumer, the queue, the stream with its group.
async fn delete(broker: &Broker) {
    match broker {
        Broker::Nats { stand, .. } => {
            let stream = stand.context.get_stream(&stand.name).await.unwrap();
            stream.delete_consumer(DURABLE).await.unwrap();
        }
        Broker::Rabbit { bench, queue, .. } => {
            let options = QueueDeleteOptions::default();
            let deleting = bench.channel.queue_delete(queue.as_str().into(), options);
            deleting.await.unwrap();
        }
        Broker::Redis {
            connection, prefix, ..
        } => {
            let stream = redis_streams::stream(redis_streams::prefix_of(prefix));
            let _: i64 = redis_streams::ask(connection, &["DEL", &stream]).await;
        }
    }
}

/// It is there again. Of a stream of Redis' the consumer makes it.
async fn make(broker: &Broker) {
    match broker {
        Broker::Nats { stand, .. } => {
            let config = jetstream::consumer::pull::Config {
                durable_name: Some(DURABLE.to_owned()),
                ack_wait: Lapse::NEVER.0,
                ..jetstream::consumer::pull::Config::default()
            };
            let stream = stand.context.get_stream(&stand.name).await.unwrap();
            stream.create_consumer(config).await.unwrap();
        }
        Broker::Rabbit { bench, queue, .. } => {
            let quorum = AMQPValue::LongString("quorum".into());
            bench.queue(queue, &[("x-queue-type", quorum)]).await;
        }
        Broker::Redis { .. } => {}
    }
}

/// The broker hears the end of the first consumer, which goes before the acknowledgement, only when
/// it is given up. It stands still for longer than that takes, and shorter than a heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_a_broker_did_not_hear_of_in_time_is_not_kept_from_everybody() {
    let classic = ("x-queue-type", AMQPValue::LongString("classic".into()));
    let Some(broker) = Broker::rabbit(&[classic]).await else {
        return;
    };
    broker.publish(1..=5).await;
    let (proxy, url) = Proxy::before(broker.url()).await.unwrap();
    let order = Mutex::new(Vec::<i64>::new());
    let (still, done) = (Notify::new(), Notify::new());
    let handle = |received: Received| {
        let id = received.id().parse().unwrap();
        let mut order = order.lock().unwrap();
        order.push(id);
        if order.len() == 1 {
            proxy.black_hole(Way::ToServer);
            proxy.black_hole(Way::ToClient);
            still.notify_one();
        }
        if id == 5 {
            done.notify_one();
        }
        std::future::ready(Handled::Done)
    };
    let consumer = broker.consumer_at(&url, "one").await;
    let running = consumer.run(soon(), done.notified(), handle);
    let standing = async {
        still.notified().await;
        sleep(Duration::from_secs(40)).await;
        proxy.heal().await.unwrap();
    };
    within(async { tokio::join!(running, standing) }).await;
    let order = order.into_inner().unwrap();
    assert!(order.is_sorted(), "{order:?}");
    let Broker::Rabbit { bench, queue, .. } = &broker else {
        unreachable!()
    };
    // What was still out has come back with the end of the channel.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.drain(queue).await, Vec::<String>::new(), "{order:?}");
}

/// A client without a connection takes so many words and then waits: with it nothing of ours may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_nats_stops_though_its_client_takes_no_more_words() {
    let Some(broker) = Broker::nats(Lapse::NEVER).await else {
        return;
    };
    let Broker::Nats { stand, .. } = &broker else {
        unreachable!()
    };
    broker.publish(1..=5).await;
    let (proxy, url) = Proxy::before(broker.url()).await.unwrap();
    let options = ConnectOptions::new().client_capacity(4);
    let client = options.connect(&url).await.unwrap();
    let stream = jetstream::new(client.clone()).get_stream(&stand.name).await;
    let consumer = stream.unwrap().get_consumer(DURABLE).await.unwrap();
    for word in [Handled::Done, Handled::Again] {
        let stop = Notify::new();
        let handle = |_: Received| {
            let (proxy, client, stop) = (&proxy, &client, &stop);
            async move {
                proxy.refuse().await.unwrap();
                proxy.cut().await;
                // Until it takes no more.
                let words = async {
                    loop {
                        client.publish("nobody", "".into()).await.unwrap();
                    }
                };
                let _: Result<(), _> = timeout(Duration::from_secs(1), words).await;
                stop.notify_one();
                word
            }
        };
        let consuming = NatsConsumer::new(client.clone(), consumer.clone());
        within(consuming.run_until(stop.notified(), handle)).await;
        proxy.heal().await.unwrap();
        eventually("it is connected again", PATIENCE, async || {
            client.flush().await.ok()
        })
        .await;
    }
}

/// What its operator allows: fewer at once, and for a shorter time, than a consumer would ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_nats_asks_for_no_more_than_it_may() {
    let Some(broker) = Broker::nats(Lapse::NEVER).await else {
        return;
    };
    let Broker::Nats { stand, .. } = &broker else {
        unreachable!()
    };
    let stream = stand.context.get_stream(&stand.name).await.unwrap();
    let config = jetstream::consumer::pull::Config {
        durable_name: Some("modest".to_owned()),
        max_batch: 3,
        max_expires: Duration::from_secs(1),
        ..jetstream::consumer::pull::Config::default()
    };
    let modest = stream.create_consumer(config).await.unwrap();
    let log = Log::default();
    let done = Notify::new();
    let handle = |received: Received| {
        log.add(&received);
        std::future::ready(Handled::Done)
    };
    // What is refused would be asked for again in a day.
    let terms = Terms::new().with_backoff(Backoff::constant(Duration::from_secs(24 * 60 * 60)));
    let consumer = NatsConsumer::new(stand.client.clone(), modest).with_terms(terms);
    let running = consumer.run_until(done.notified(), handle);
    let publishing = async {
        for begin in [1, 11] {
            // While it waits for the next.
            sleep(Duration::from_secs(2)).await;
            broker.publish(begin..=begin + 9).await;
            has(&log, begin..=begin + 9).await;
        }
        done.notify_one();
    };
    within(async { tokio::join!(running, publishing) }).await;
    assert!(log.all().values().all(|times| *times == 1));
}

/// The group's list of what is in work begins with much that a living member has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_consumer_has_read_is_taken_over_behind_all_that_others_have_in_work() {
    let Some(broker) = Broker::redis(Lapse::NEVER).await else {
        return;
    };
    let Broker::Redis {
        connection, prefix, ..
    } = &broker
    else {
        unreachable!()
    };
    broker.publish(1..=251).await;
    let stream = redis_streams::stream(redis_streams::prefix_of(prefix));
    let make = ["XGROUP", "CREATE", &stream, GROUP, "0"];
    let _: String = redis_streams::ask(connection, &make).await;
    let read = async |name: &str, many: &str| -> Value {
        let read = ["XREADGROUP", "GROUP", GROUP, name, "COUNT", many];
        let read = [&read[..], &["STREAMS", &stream, ">"][..]].concat();
        redis_streams::ask(connection, &read).await
    };
    read("lives", "250").await;
    read("dead", "1").await;
    let words = ["XPENDING", &stream, GROUP, "-", "+", "1", "dead"];
    let left: Vec<(String, String, i64, i64)> = redis_streams::ask(connection, &words).await;
    let id = &left[0].0;
    let age = ["XCLAIM", &stream, GROUP, "dead", "0", id, "IDLE"];
    let age = [&age[..], &["172800000", "JUSTID"][..]].concat();
    let _: Value = redis_streams::ask(connection, &age).await;
    let (log, done) = (Log::default(), Notify::new());
    let handle = |received: Received| {
        log.add(&received);
        done.notify_one();
        std::future::ready(Handled::Done)
    };
    let terms = soon().with_batch(1).unwrap();
    let consumer = broker.consumer("other").await;
    within(consumer.run(terms, done.notified(), handle)).await;
    assert_eq!(log.all().into_keys().collect::<Vec<_>>(), [251]);
}

/// A connection of the user's whose answers have no deadline, into silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_redis_stops_though_its_connection_waits_for_ever() {
    let Some(broker) = Broker::redis(Lapse::NEVER).await else {
        return;
    };
    let Broker::Redis { prefix, .. } = &broker else {
        unreachable!()
    };
    broker.publish(1..=5).await;
    let (proxy, url) = Proxy::before(broker.url()).await.unwrap();
    let config = ConnectionManagerConfig::new().set_response_timeout(None);
    let client = Client::open(url).unwrap();
    let patient = ConnectionManager::new_with_config(client, config).await;
    let patient = RedisConnection::new(patient.unwrap());
    let prefix = redis_streams::prefix_of(prefix);
    let consumer = RedisStreamConsumer::new(&patient, prefix, TOPIC, GROUP, "one").unwrap();
    let stop = Notify::new();
    let handle = |_: Received| {
        proxy.black_hole(Way::ToServer);
        proxy.black_hole(Way::ToClient);
        stop.notify_one();
        std::future::ready(Handled::Done)
    };
    within(consumer.run_until(stop.notified(), handle)).await;
}
