//! The how-to for Kafka is code that compiles against our trait, with a stand-in for its client.

#[expect(unreachable_pub, reason = "a reader has it in a file of his own")]
mod how_to;
mod rdkafka;

use std::time::SystemTime;

use buttress_outbox::{
    Delivery, Message,
    PublishErrorKind::{Down, Refused, RefusedForGood, Skipped, Unknown},
    Publisher as _,
};

use self::{
    how_to::KafkaPublisher,
    rdkafka::{error::RDKafkaErrorCode as Code, producer::Report},
};

#[tokio::test]
async fn the_how_to_for_kafka_answers_for_each_message() {
    let rows = [
        (Report::Delivered, None),
        (
            Report::NotQueued(Code::MessageSizeTooLarge),
            Some(RefusedForGood),
        ),
        (Report::NotQueued(Code::QueueFull), Some(Skipped)),
        (
            Report::Failed(Code::MessageSizeTooLarge),
            Some(RefusedForGood),
        ),
        (Report::Failed(Code::InvalidRecord), Some(Refused)),
        (Report::Failed(Code::InvalidDifferentRecord), Some(Skipped)),
        (
            Report::Failed(Code::NotEnoughReplicasAfterAppend),
            Some(Unknown),
        ),
        (Report::Failed(Code::MessageTimedOut), Some(Down)),
        (Report::Failed(Code::TopicAuthorizationFailed), Some(Down)),
        (Report::Canceled, Some(Unknown)),
        (Report::Delivered, None),
    ];
    let batch: Vec<_> = (0..11)
        .map(|n: i64| {
            let message = Message::builder("orders", "/shop", "order.placed");
            let message = if n == 0 {
                message
            } else {
                message.key(n.to_string())
            };
            let message = message.json(&n).build().unwrap();
            Delivery::new(message, n, 1, SystemTime::UNIX_EPOCH)
        })
        .collect();
    let producer = rdkafka::producer::FutureProducer::of(rows.map(|(report, _)| report));
    let publisher = KafkaPublisher {
        producer: producer.clone(),
    };
    let answers = publisher.publish(&batch).await;
    let kinds: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.err().map(|error| error.kind()))
        .collect();
    assert_eq!(kinds, rows.map(|(_, kind)| kind));
    let sent = producer.sent();
    assert_eq!(
        sent[0],
        "orders - 0 ce_specversion ce_id ce_source ce_type content-type"
    );
    assert_eq!(
        sent[7],
        "orders 7 7 ce_specversion ce_id ce_source ce_type content-type"
    );
}

#[test]
fn the_how_to_for_kafka_is_what_the_page_shows() {
    let page = include_str!("../../../../../docs/patterns/outbox.md");
    let (_, code) = include_str!("how_to.rs").split_once("\n\n").unwrap();
    let code = code.replace("super::rdkafka", "rdkafka");
    assert!(
        page.contains(&format!("```rust\n{code}```")),
        "copy it:\n{code}"
    );
}
