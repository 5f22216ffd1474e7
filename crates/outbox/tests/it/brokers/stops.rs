//! Consumers that are stopped and dropped again and again, also while they begin.

use std::{sync::Mutex, time::Duration};

use buttress_outbox::{
    consumer::{Handled, Received, Terms},
    publisher::rabbitmq::lapin::types::AMQPValue,
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::{
    proxy::{Proxy, Way},
    seed::Seed,
    short_or_long,
};
use rand::RngExt as _;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    each::{Broker, Lapse},
    log::Log,
    soon,
    trouble::{has, within},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_overtaken_however_often_a_consumer_is_stopped_on_redis() {
    if let Some(broker) = Broker::redis(Lapse::NEVER).await {
        Box::pin(stopped_often(broker)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_overtaken_however_often_a_consumer_is_stopped_on_rabbitmq() {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let arguments = [
        ("x-queue-type", text("classic")),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
    ];
    if let Some(broker) = Broker::rabbit(&arguments).await {
        Box::pin(stopped_often(broker)).await;
    }
}

/// One consumer after the other, some of them dropped where they are; their handler wants to see
/// some messages again.
async fn stopped_often(broker: Broker) {
    let last: i64 = short_or_long(200, 3000);
    for begin in (1..=last).step_by(50) {
        broker.publish(begin..=begin + 49).await;
    }
    let seed = Seed::new();
    let rng = Mutex::new(seed.rng());
    let done = Mutex::new(Vec::<i64>::new());
    let handle = |received: Received| {
        let id = received.id().parse().unwrap();
        let again = rng.lock().unwrap().random_bool(0.1);
        let (rng, done) = (&rng, &done);
        async move {
            let time = rng.lock().unwrap().random_range(0..3);
            sleep(Duration::from_millis(time)).await;
            if again {
                return Handled::Again;
            }
            done.lock().unwrap().push(id);
            Handled::Done
        }
    };
    let terms = Terms::new().with_backoff(Backoff::constant(Duration::from_millis(5)));
    let consuming = async {
        while !done.lock().unwrap().contains(&last) {
            let (time, dropped) = {
                let mut rng = rng.lock().unwrap();
                (rng.random_range(5..150), rng.random_bool(0.3))
            };
            let time = Duration::from_millis(time);
            let consumer = broker.consumer("one").await;
            if dropped {
                let running = consumer.run(terms.clone(), std::future::pending(), handle);
                let _: Result<(), _> = timeout(time, running).await;
            } else {
                consumer.run(terms.clone(), sleep(time), handle).await;
            }
        }
    };
    within(consuming).await;
    let mut so_far = 0;
    for id in done.into_inner().unwrap() {
        assert!(id <= so_far + 1, "{id} overtook what is behind {so_far}");
        so_far = so_far.max(id);
    }
}

/// On a slow way, at each of its steps: a consumer that nobody waited for would be the active one
/// for ever, and have what it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_ends_while_it_begins_leaves_none_behind() {
    let active = ("x-single-active-consumer", AMQPValue::Boolean(true));
    let Some(broker) = Broker::rabbit(&[active]).await else {
        return;
    };
    let (proxy, url) = Proxy::before(broker.url()).await.unwrap();
    proxy.delay(Way::ToClient, Duration::from_millis(30));
    let (log, done) = (Log::default(), Notify::new());
    let handle = |received: Received| {
        log.add(&received);
        std::future::ready(Handled::Done)
    };
    for step in 0..30 {
        let time = Duration::from_millis(20) * step;
        let consumer = broker.consumer_at(&url, "one").await;
        if step % 2 == 0 {
            let running = consumer.run(soon(), std::future::pending(), handle);
            let _: Result<(), _> = timeout(time, running).await;
        } else {
            consumer.run(soon(), sleep(time), handle).await;
        }
    }
    broker.publish(1..=5).await;
    let consumer = broker.consumer("two").await;
    let all = async {
        has(&log, 1..=5).await;
        done.notify_one();
    };
    let running = consumer.run(soon(), done.notified(), handle);
    within(async { tokio::join!(running, all) }).await;
}
