//! What every consumer does, on each broker: poison, strangers, groups, lost connections, slow
//! handlers, stops.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use buttress_outbox::{
    consumer::{Handled, Received, Terms},
    publisher::rabbitmq::lapin::types::AMQPValue,
};
use buttress_testkit::{eventually, proxy::Proxy, short_or_long, tally};
use tokio::sync::Notify;

use super::{
    PATIENCE,
    each::{Broker, Consumer, Lapse},
    log::Log,
    soon,
};

/// A broker that goes by time gives what a dead consumer had to another after this long.
const LAPSE: Lapse = Lapse(Duration::from_secs(5));

/// The same where it must be able to say within two thirds of it that it is at work.
const SLOW: Lapse = Lapse(Duration::from_secs(10));

/// The same test on each broker.
macro_rules! on_each {
    ($($test:ident: $scenario:path, $lapse:expr;)*) => {
        $(mod $test {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_nats() {
                if let Some(broker) = Broker::nats($lapse).await {
                    // A test thread's stack is small.
                    Box::pin($scenario(broker)).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_rabbitmq() {
                if let Some(broker) = Broker::rabbit(&[]).await {
                    // A test thread's stack is small.
                    Box::pin($scenario(broker)).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_redis() {
                if let Some(broker) = Broker::redis($lapse).await {
                    // A test thread's stack is small.
                    Box::pin($scenario(broker)).await;
                }
            }
        })*
    };
}

on_each! {
    poison_is_put_aside_after_its_attempts_and_takes_no_neighbour_with_it: poison, LAPSE;
    what_is_never_done_is_put_aside_after_its_attempts: never_done, Lapse::NEVER;
    a_strangers_bytes_are_put_aside_and_hold_up_nothing: stranger, Lapse::NEVER;
    two_of_a_group_handle_each_message_once: two, Lapse::NEVER;
    a_consumer_whose_connection_is_cut_finds_its_way_back: cut, Lapse(Duration::from_secs(1));
    a_stop_gives_back_at_once_what_was_fetched: stopped, Lapse::NEVER;
    a_handler_that_takes_too_long_is_dropped_and_its_message_comes_again: hung, Lapse::NEVER;
    a_slow_handler_keeps_its_message_and_those_behind_it: slow, SLOW;
}

/// All was given out and acknowledged, and so many were put aside.
async fn is_empty(broker: &Broker, aside: usize) {
    eventually("nothing waits", PATIENCE, async || {
        let are = broker.aside().await;
        assert!(are <= aside, "{are} were put aside");
        (are == aside && broker.is_empty().await).then_some(())
    })
    .await;
}

/// Consumes until `done`, and then stops.
async fn consume<H, Fut>(
    consumer: Consumer,
    terms: Terms,
    done: impl Future<Output = ()>,
    handle: H,
) where
    H: Fn(Received) -> Fut + Send + Sync,
    Fut: Future<Output = Handled> + Send,
{
    let stop = Notify::new();
    let ending = async {
        done.await;
        stop.notify_one();
    };
    let running = Box::pin(consumer.run(terms, stop.notified(), handle));
    within(async { tokio::join!(running, ending) }).await;
}

async fn within<T>(running: impl Future<Output = T>) -> T {
    let running = Box::pin(running);
    tokio::time::timeout(PATIENCE, running).await.unwrap()
}

/// A message kills whoever handles it: the consumer is dropped, and another one begins.
async fn poison(broker: Broker) {
    let tally = tally::suite("OB7 X5");
    broker.publish(1..=12).await;
    let log = Log::default();
    let mut deaths = 0_u64;
    loop {
        let died = Notify::new();
        let handle = |received: Received| {
            let (id, _) = log.add(&received);
            let died = &died;
            async move {
                // Two of them, in the middle of what is fetched together.
                if id == 5 || id == 6 {
                    died.notify_one();
                    std::future::pending::<()>().await;
                }
                Handled::Done
            }
        };
        let done = async {
            log.has(12).await;
            is_empty(&broker, 2).await;
        };
        let terms = soon().with_attempts(3).unwrap();
        let consumer = broker.consumer("one").await;
        let went_on = within(async {
            tokio::select! {
                () = consume(consumer, terms, done, handle) => true,
                () = died.notified() => false,
            }
        })
        .await;
        if went_on {
            break;
        }
        deaths += 1;
        assert!(deaths <= 6, "{:?}", log.all());
    }
    let all = log.all();
    for (id, times) in &all {
        // Where a machine stands still for long, a neighbour lapses and comes once more.
        assert!(*times <= 2 || *id == 5 || *id == 6, "{all:?}");
    }
    assert!(all[&5] + all[&6] >= 5, "{all:?}");
    tally.kills(deaths);
    tally.operations(12);
}

/// A message that its handler always wants to see again.
async fn never_done(broker: Broker) {
    let tally = tally::suite("OB7");
    broker.publish(1..=8).await;
    let log = Log::default();
    let handle = |received: Received| {
        let (id, times) = log.add(&received);
        // What was fetched with it has come as often as it was given back.
        assert!(received.attempt() == times || id != 4);
        std::future::ready(if id == 4 {
            Handled::Again
        } else {
            Handled::Done
        })
    };
    let terms = soon().with_attempts(3).unwrap();
    let done = async {
        log.has(8).await;
        is_empty(&broker, 1).await;
    };
    consume(broker.consumer("one").await, terms, done, handle).await;
    let all = log.all();
    assert_eq!(all[&4], 3);
    tally.operations(8);
}

/// Bytes that are no event, before and between those that are.
async fn stranger(broker: Broker) {
    let tally = tally::suite("OB7");
    let strange = broker.strange() * 2;
    broker.a_stranger_writes().await;
    broker.publish(1..=3).await;
    broker.a_stranger_writes().await;
    broker.publish(4..=6).await;
    let log = Log::default();
    let handle = |received: Received| {
        log.add(&received);
        std::future::ready(Handled::Done)
    };
    let done = async {
        log.has(6).await;
        is_empty(&broker, strange).await;
    };
    consume(broker.consumer("one").await, soon(), done, handle).await;
    assert!(log.all().values().all(|times| *times == 1));
    tally.operations(6 + strange);
}

/// Nobody dies, so nothing comes twice.
async fn two(broker: Broker) {
    let tally = tally::suite("OB2");
    let many = short_or_long(300, 5000);
    let log = Log::default();
    let run = async |name: &str| {
        let consumer = broker.consumer(name).await;
        let handle = |received: Received| {
            log.add(&received);
            async {
                tokio::task::yield_now().await;
                Handled::Done
            }
        };
        let all = async {
            eventually("all were handled", PATIENCE, async || {
                (log.all().len() == usize::try_from(many).unwrap()).then_some(())
            })
            .await;
            is_empty(&broker, 0).await;
        };
        let terms = soon().with_batch(7).unwrap();
        consume(consumer, terms, all, handle).await;
    };
    let publishing = async {
        for begin in (0..many).step_by(50) {
            broker.publish(begin..=begin + 49).await;
        }
    };
    within(async { tokio::join!(run("one"), run("two"), publishing) }).await;
    let all = log.all();
    let twice = all.values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "of {} messages", all.len());
    tally.operations(all.len());
}

/// The connection is reset, again and again, in the middle of it.
async fn cut(broker: Broker) {
    let tally = tally::suite("OB8");
    let (proxy, url) = Proxy::before(broker.url()).await.unwrap();
    let consumer = broker.consumer_at(&url, "one").await;
    let log = Log::default();
    let handle = |received: Received| {
        log.add(&received);
        std::future::ready(Handled::Done)
    };
    let rounds = short_or_long(4, 40);
    let all = async {
        for round in 0..rounds {
            let begin = round * 10;
            broker.publish(begin..=begin + 9).await;
            let so_many = usize::try_from(begin + 5).unwrap();
            log.has(so_many).await;
            proxy.cut().await;
        }
        log.has(usize::try_from(rounds * 10).unwrap()).await;
        is_empty(&broker, 0).await;
    };
    consume(consumer, soon(), all, handle).await;
    tally.faults(rounds);
    tally.operations(log.all().len());
}

/// The stop comes in the middle of a message, with others fetched behind it. Nothing lapses in this
/// test, so another consumer has the others only if they were given back.
async fn stopped(broker: Broker) {
    let tally = tally::suite("OB1");
    broker.publish(1..=10).await;
    let first = Mutex::new(Vec::<i64>::new());
    let stop = Notify::new();
    let handle = |received: Received| {
        let id = received.id().parse().unwrap();
        first.lock().unwrap().push(id);
        if id == 2 {
            stop.notify_one();
        }
        async {
            // It may be dropped here by a consumer that does not handle to the end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Handled::Done
        }
    };
    let consumer = broker.consumer("one").await;
    within(consumer.run(soon(), stop.notified(), handle)).await;
    assert_eq!(*first.lock().unwrap(), [1, 2]);
    let second = Log::default();
    let handle = |received: Received| {
        second.add(&received);
        std::future::ready(Handled::Done)
    };
    let done = async {
        second.has(8).await;
        is_empty(&broker, 0).await;
    };
    consume(broker.consumer("two").await, soon(), done, handle).await;
    let all: Vec<_> = second.all().into_iter().collect();
    let expected: Vec<_> = (3..=10).map(|id| (id, 1)).collect();
    assert_eq!(all, expected);
    tally.operations(10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_is_not_overtaken_on_redis() {
    if let Some(broker) = Broker::redis(Lapse::NEVER).await {
        Box::pin(again(broker)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_is_not_overtaken_in_a_classic_queue_of_rabbitmq() {
    let classic = ("x-queue-type", AMQPValue::LongString("classic".into()));
    if let Some(broker) = Broker::rabbit(&[classic]).await {
        Box::pin(again(broker)).await;
    }
}

/// With others fetched behind it, which come again with it.
async fn again(broker: Broker) {
    let tally = tally::suite("OB2");
    broker.publish(1..=20).await;
    let order = Mutex::new(Vec::<i64>::new());
    let handle = |received: Received| {
        let id = received.id().parse().unwrap();
        let mut order = order.lock().unwrap();
        order.push(id);
        let times = order.iter().filter(|it| **it == id).count();
        std::future::ready(match id % 5 {
            3 if times < 3 => Handled::Again,
            _ => Handled::Done,
        })
    };
    let expected: Vec<i64> = (1..=20)
        .flat_map(|id| vec![id; if id % 5 == 3 { 3 } else { 1 }])
        .collect();
    let all = eventually("all were handled", PATIENCE, async || {
        (order.lock().unwrap().len() >= expected.len()).then_some(())
    });
    consume(broker.consumer("one").await, soon(), all, handle).await;
    assert_eq!(*order.lock().unwrap(), expected);
    tally.operations(expected.len());
}

/// The first time it never answers.
async fn hung(broker: Broker) {
    let tally = tally::suite("OB7");
    broker.publish(1..=3).await;
    let log = Log::default();
    let handle = |received: Received| {
        let (id, times) = log.add(&received);
        async move {
            if (id, times) == (2, 1) {
                std::future::pending::<()>().await;
            }
            Handled::Done
        }
    };
    let terms = soon().with_deadline(Duration::from_millis(500)).unwrap();
    let done = async {
        log.has(3).await;
        eventually("it comes again", PATIENCE, async || {
            (log.all()[&2] >= 2).then_some(())
        })
        .await;
        is_empty(&broker, 0).await;
    };
    consume(broker.consumer("one").await, terms, done, handle).await;
    tally.operations(3);
}

/// The broker's own limit, without ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_delivery_limit_of_a_quorum_queue_takes_the_poison_and_none_of_its_neighbours() {
    let tally = tally::suite("OB7");
    let limit = [("x-delivery-limit", AMQPValue::LongInt(4))];
    let Some(broker) = Broker::rabbit(&limit).await else {
        return;
    };
    broker.publish(1..=12).await;
    let log = Log::default();
    let handle = |received: Received| {
        let (id, _) = log.add(&received);
        std::future::ready(if id == 5 {
            Handled::Again
        } else {
            Handled::Done
        })
    };
    let done = async {
        log.has(12).await;
        is_empty(&broker, 1).await;
    };
    consume(broker.consumer("one").await, soon(), done, handle).await;
    let all = log.all();
    assert_eq!(all[&5], 5, "the first time, and four more");
    assert_eq!(all.values().sum::<u32>(), 11 + 5, "{all:?}");
    tally.operations(12);
}

/// A handler that takes longer than the lapse, and another consumer that waits for one.
async fn slow(broker: Broker) {
    let tally = tally::suite("OB3");
    broker.publish(1..=3).await;
    let (first, second) = (Log::default(), Log::default());
    let begun = Notify::new();
    let done = Notify::new();
    let slow = |received: Received| {
        let (id, _) = first.add(&received);
        let begun = &begun;
        async move {
            if id == 2 {
                begun.notify_one();
                tokio::time::sleep(SLOW.0 * 3 / 2).await;
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
    let terms = || Terms::new().with_batch(10).unwrap();
    let working = async {
        let all = async {
            first.has(3).await;
            is_empty(&broker, 0).await;
        };
        consume(one, terms(), all, slow).await;
        done.notify_one();
    };
    let waiting = async {
        // From when the first has fetched all.
        begun.notified().await;
        two.run(terms(), done.notified(), other).await;
    };
    within(async { tokio::join!(working, waiting) }).await;
    assert_eq!(first.all(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    assert!(second.all().is_empty(), "{:?}", second.all());
    tally.operations(3);
}
