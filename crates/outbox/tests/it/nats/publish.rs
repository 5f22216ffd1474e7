//! What is published, under which subject, and how often.

use std::{collections::BTreeSet, time::Duration};

use buttress_outbox::{Delivery, Inbox, PublishErrorKind, Publisher, Taken};
use buttress_testkit::eventually;
use futures_util::StreamExt as _;

use super::stand::{PATIENCE, Stand, base, delivery, publish, publish_one};
use crate::base as databases;

#[tokio::test]
async fn what_is_read_from_the_stream_is_the_message_that_was_published() {
    let Some(stand) = Stand::shared().await else {
        return;
    };
    let publisher = stand.publisher("{topic}.{key}");
    let trace = "00-12345678901234567890123456789012-1234567890123456-01";
    let whole = base()
        .key("a.b")
        .subject("Žluť \"100%\"")
        .time(std::time::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456))
        .traceparent(trace)
        .tracestate("a=1")
        .data_schema("x:y")
        .header("x-note", " ž: 100% ")
        .json(&["one apple"])
        .build()
        .unwrap();
    let binary = base().key([0, 255]).payload(vec![0, 13, 10, 255]).build();
    let messages = [whole, binary.unwrap()];
    let answers = publish(&publisher, messages.clone()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let received = stand.all().await;
    assert_eq!(received.len(), 2);
    let first = received[0].delivery().unwrap();
    assert_eq!(first.message(), &messages[0]);
    // Who says nothing of when it happened has said when it was appended.
    let second = received[1].delivery().unwrap();
    assert_eq!(second.message().id(), messages[1].id());
    assert_eq!(second.message().key(), messages[1].key());
    assert_eq!(second.message().payload(), messages[1].payload());
    assert_eq!((second.sequence(), second.attempt()), (1, 1));
    let subjects: Vec<_> = stand.raw().await;
    let subjects: Vec<_> = subjects.iter().map(|it| it.subject.as_str()).collect();
    let name = &stand.name;
    assert_eq!(
        subjects,
        [
            format!("{name}.orders.a%2Eb"),
            format!("{name}.orders.%00%FF")
        ]
    );
}

#[tokio::test]
async fn what_comes_again_within_the_window_is_there_once_and_after_it_the_inbox_takes_it_once() {
    let window = Duration::from_secs(2);
    let Some(stand) = Stand::shared_with(|config| config.duplicate_window = window).await else {
        return;
    };
    let publisher = stand.publisher("{topic}");
    let message = base().id("one").build().unwrap();
    let batch = [delivery(message.clone()), delivery(message)];
    let answers = publisher.publish(&batch).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(stand.held().await, 1);
    // The server looks for what is older than the window now and then.
    eventually("the window has ended", PATIENCE, async || {
        publish_one(&publisher, base().id("one")).await.unwrap();
        (stand.held().await == 2).then_some(())
    })
    .await;
    let database = databases::on_sqlite().await.unwrap();
    let inbox = Inbox::new(database.store.clone(), "consumer").unwrap();
    let mut taken = Vec::new();
    for received in stand.all().await {
        let mut transaction = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let id = received.inbox_id();
        taken.push(inbox.take_in(&mut *transaction, id).await.unwrap());
        transaction.commit().await.unwrap();
    }
    assert_eq!(taken, [Taken::First, Taken::Before]);
}

/// Nothing of a message becomes a subject of another's, a header of the server's, or a line of
/// the protocol.
#[tokio::test]
async fn keys_tenants_and_headers_inject_nothing() {
    let Some(stand) = Stand::shared().await else {
        return;
    };
    let mut everything = stand
        .client
        .subscribe(format!("{}.>", stand.name))
        .await
        .unwrap();
    let mut others = stand.client.subscribe("evil.>").await.unwrap();
    let publisher = stand.publisher("{header:x-tenant}.{topic}.{key}");
    let evils = [
        ">",
        "*",
        "a.b",
        "evil.x",
        "a b",
        "$JS.API.STREAM.DELETE",
        "a\r\nPUB evil.x 0\r\n\r\n",
        "a\nNats-Rollup: all",
        "%0D%0A",
        "\t",
        "ä",
    ];
    let mut messages = Vec::new();
    for evil in evils {
        let mut message = base().key(evil);
        // What ends a line is no header, and refused long before.
        if !evil.contains(['\r', '\n', '\t']) {
            message = message.header("x-tenant", evil).subject(evil);
        }
        // All of them at once: were one of these believed, the stream would hold one message.
        let message = message
            .header("x-note", "Nats-Msg-Id: the same")
            .header("nats-msg-id", "the same")
            .header("Nats-Rollup", "all")
            .tracestate("Nats-Msg-Id:same");
        messages.push(message.build().unwrap());
    }
    let answers = publish(&publisher, messages.clone()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let received = stand.all().await;
    assert_eq!(received.len(), evils.len());
    for (received, message) in received.iter().zip(&messages) {
        let delivery = received.delivery().unwrap();
        let read = delivery.message();
        assert_eq!(read.key(), message.key());
        assert_eq!(read.subject(), message.subject());
        assert_eq!(read.tracestate(), message.tracestate());
        assert_eq!(read.headers()["x-note"], "Nats-Msg-Id: the same");
        assert!(!read.headers().contains_key("nats-rollup"));
    }
    let mut subjects = BTreeSet::new();
    for _ in evils {
        let seen = everything.next().await.unwrap();
        assert_eq!(seen.subject.split('.').count(), 4, "{}", seen.subject);
        subjects.insert(seen.subject.to_string());
    }
    assert_eq!(subjects.len(), evils.len());
    stand.client.publish("evil.last", "".into()).await.unwrap();
    let seen = others.next().await.unwrap();
    assert_eq!(&*seen.subject, "evil.last", "nothing came before it");
}

/// A batch of many keys is confirmed as a whole.
#[tokio::test]
async fn a_batch_is_confirmed_message_by_message_in_order() {
    let Some(stand) = Stand::shared().await else {
        return;
    };
    let publisher = stand.publisher("{topic}");
    let batch: Vec<Delivery> = (0..1000)
        .map(|n| delivery(base().key(format!("{n}")).json(&n).build().unwrap()))
        .collect();
    let answers = publisher.publish(&batch).await;
    assert!(answers.iter().all(Result::is_ok));
    let numbers: Vec<i32> = stand
        .all()
        .await
        .iter()
        .map(|it| serde_json::from_slice(it.data()).unwrap())
        .collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_it_is_sent() {
    let Some(stand) = Stand::shared().await else {
        return;
    };
    let publisher = stand.publisher("{key}.{header:x-tenant}");
    let long = base().key([0; 255]).header("x-tenant", "ä".repeat(1000));
    let answer = publish_one(&publisher, long).await;
    assert_eq!(answer, Err(PublishErrorKind::RefusedForGood));
    // The connection has survived it.
    assert_eq!(publish_one(&publisher, base()).await, Ok(()));
}
