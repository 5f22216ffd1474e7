//! What RabbitMQ says of a message, of an exchange, of itself; and what a message may not do.

use std::time::Duration;

use buttress_outbox::{
    PublishErrorKind::{Down, Refused, RefusedForGood, Skipped, Unknown},
    publisher::{
        rabbitmq::{RabbitConnection, RabbitPublisher, lapin::types::AMQPValue},
        word,
    },
};
use buttress_testkit::{
    eventually,
    proxy::{Proxy, Way},
    rabbitmq::LONGEST_MESSAGE,
};

use super::{PATIENCE, delivery, kinds, message, rabbitmq::fresh};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_no_queue_is_bound_for_is_not_called_delivered_and_no_other_is_blamed() {
    let Some((name, bench, connection)) = fresh().await else {
        return;
    };
    let (exchange, queue) = (name.as_str(), name.as_str());
    bench.exchange(exchange).await;
    bench.queue(queue, &[]).await;
    bench.bind(queue, exchange, "known").await;
    let publisher = RabbitPublisher::new(&connection, exchange).unwrap();
    let publisher = publisher.with_routing(|message| message.event_type().to_owned());
    // The broker confirms many at once, and one that it returned may be confirmed among them. Each
    // place in the batch is tried.
    let size = 40;
    for odd in (0..size).step_by(3) {
        let one = |n: i64| {
            let event_type = if n == odd { "unknown" } else { "known" };
            delivery(n, message(event_type).id(n.to_string()))
        };
        let batch: Vec<_> = (0..size).map(one).collect();
        let kinds = kinds(&publisher, &batch).await;
        for (n, kind) in (0..size).zip(kinds) {
            assert_eq!(
                kind,
                (n == odd).then_some(Refused),
                "{n} of a batch with {odd}"
            );
        }
        let mut delivered: Vec<i64> = bench
            .drain(queue)
            .await
            .iter()
            .map(|id| id.parse().unwrap())
            .collect();
        delivered.sort_unstable();
        let expected: Vec<i64> = (0..size).filter(|n| *n != odd).collect();
        assert_eq!(delivered, expected);
    }
    let whoever = publisher.allow_unroutable();
    let unknown = [delivery(1, message("unknown"))];
    assert_eq!(kinds(&whoever, &unknown).await, [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_key_nor_header_takes_a_message_where_it_does_not_belong() {
    let Some((name, bench, connection)) = fresh().await else {
        return;
    };
    let exchange = name.as_str();
    bench.exchange(exchange).await;
    let (own, victim) = (format!("{exchange}-own"), format!("{exchange}-victim"));
    for queue in [&own, &victim] {
        bench.queue(queue, &[]).await;
    }
    bench.bind(&own, exchange, "tenant.*").await;
    for key in ["tenant.*.*.#", "*.secret", "#.secret.#"] {
        bench.bind(&victim, exchange, key).await;
    }
    let publisher = RabbitPublisher::new(&connection, exchange).unwrap();
    let publisher = publisher.with_routing(|message| {
        format!(
            "tenant.{}",
            word(message.key().map_or(&b""[..], |key| &key[..]))
        )
    });
    let keys = [
        &b"plain"[..],
        b"a.secret",
        b"secret.secret",
        b"#",
        b"*",
        b"a.b.c.d",
        b"\xff\0\r\n",
        b"secret\r\n.secret",
    ];
    let batch: Vec<_> = (1..)
        .zip(keys)
        .map(|(n, key)| {
            // The names by which a sender of RabbitMQ's routes, in any letters.
            let routed = message("t").key(key).id(n.to_string());
            let routed = routed.header("CC", &victim).header("BCC", &victim);
            delivery(n, routed.header("x-match", "any"))
        })
        .collect();
    assert_eq!(kinds(&publisher, &batch).await, [None; 8]);
    assert_eq!(bench.drain(&own).await.len(), 8);
    assert_eq!(bench.drain(&victim).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_for_good_and_what_is_beside_it_is_delivered() {
    let Some((name, bench, connection)) = fresh().await else {
        return;
    };
    let queue = name.as_str();
    bench.queue(queue, &[]).await;
    let routing = queue.to_owned();
    let publisher = RabbitPublisher::new(&connection, "").unwrap();
    let publisher = publisher.with_routing(move |message| match message.event_type() {
        "far" => "a".repeat(256),
        _ => routing.clone(),
    });
    let mut heavy = message("heavy");
    for n in 0..64 {
        heavy = heavy.header(format!("h-{n}"), "v".repeat(4096));
    }
    let batch = [
        delivery(1, message("t").id("1")),
        delivery(2, message("far").id("2")),
        delivery(3, heavy.id("3")),
        delivery(4, message("t").id("4")),
    ];
    let expected = [None, Some(RefusedForGood), Some(RefusedForGood), None];
    assert_eq!(kinds(&publisher, &batch).await, expected);
    assert_eq!(kinds(&publisher, &batch[1..3]).await, expected[1..3]);
    assert_eq!(bench.drain(queue).await, ["1", "4"]);
    assert!(RabbitPublisher::new(&connection, &"a".repeat(256)).is_err());
    assert!(
        RabbitPublisher::new(&connection, "")
            .unwrap()
            .with_patience(Duration::ZERO)
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_exchange_is_an_outage_and_a_queue_that_rejects_none() {
    let Some((name, bench, connection)) = fresh().await else {
        return;
    };
    let queue = name.as_str();
    let batch = [delivery(1, message("t")), delivery(2, message("t"))];
    let missing = RabbitPublisher::new(&connection, "buttress-test-is-not-there").unwrap();
    assert_eq!(kinds(&missing, &batch).await, [Some(Down), Some(Skipped)]);
    let full = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    bench.queue(queue, &full).await;
    let routing = queue.to_owned();
    let publisher = RabbitPublisher::new(&connection, "").unwrap();
    let publisher = publisher.with_routing(move |_| routing.clone());
    assert_eq!(kinds(&publisher, &batch[..1]).await, [None]);
    assert_eq!(
        kinds(&publisher, &batch).await,
        [Some(Unknown), Some(Unknown)]
    );
    assert_eq!(bench.drain(queue).await.len(), 1);
    assert_eq!(kinds(&publisher, &batch[..1]).await, [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_long_for_the_broker_is_refused_alone_and_a_silent_broker_is_left() {
    let Some((name, bench, connection)) = fresh().await else {
        return;
    };
    let queue = name.as_str();
    bench.queue(queue, &[]).await;
    let to_queue = |connection: &RabbitConnection| {
        let routing = queue.to_owned();
        let publisher = RabbitPublisher::new(connection, "").unwrap();
        publisher.with_routing(move |_| routing.clone())
    };
    let publisher = to_queue(&connection);
    let long = message("long").payload(vec![0; LONGEST_MESSAGE + 1]);
    let mut batch: Vec<_> = (0..10)
        .map(|n| delivery(n, message("t").id(n.to_string())))
        .collect();
    batch.insert(4, delivery(100, long));
    let mut expected = [None; 11];
    expected[4] = Some(Refused);
    assert_eq!(kinds(&publisher, &batch).await, expected);
    let mut ids = bench.drain(queue).await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10, "the others are there, some perhaps twice");

    // Now through a line that goes dead without a word.
    let url = name.url();
    let address = url.rsplit_once('@').unwrap().1.split('/').next().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let url = url.replace(address, &proxy.address().to_string());
    let connection = RabbitConnection::new(&url).unwrap();
    let publisher = to_queue(&connection);
    let publisher = publisher.with_patience(Duration::from_secs(2)).unwrap();
    let one = [delivery(1, message("t").id("1"))];
    eventually("it is connected", PATIENCE, async || {
        (kinds(&publisher, &one).await == [None]).then_some(())
    })
    .await;
    proxy.black_hole(Way::ToClient);
    assert_eq!(kinds(&publisher, &one).await, [Some(Down)]);
    proxy.refuse().await.unwrap();
    assert_eq!(kinds(&publisher, &one).await, [Some(Down)]);
    proxy.heal().await.unwrap();
    eventually("it finds its way back", PATIENCE, async || {
        (kinds(&publisher, &one).await == [None]).then_some(())
    })
    .await;
}
