//! What `docs/patterns/outbox.md` shows, word for word but for where the client is.

use super::rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use buttress_outbox::{Delivery, PublishError, Publisher};

pub struct KafkaPublisher {
    pub producer: FutureProducer,
}

#[async_trait::async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        // All are handed to the client, which batches them by itself; then all reports are awaited.
        let reports: Vec<_> = batch
            .iter()
            .map(|delivery| {
                let message = delivery.message();
                let attributes = [
                    ("ce_specversion", Some("1.0")),
                    ("ce_id", Some(message.id())),
                    ("ce_source", Some(message.source())),
                    ("ce_type", Some(message.event_type())),
                    ("ce_subject", message.subject()),
                    ("content-type", message.data_content_type()),
                ];
                let headers = attributes.into_iter().filter(|(_, value)| value.is_some());
                let headers = headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value })
                });
                let record = FutureRecord::<[u8], [u8]>::to(message.topic().as_str())
                    .payload(message.payload())
                    .headers(headers);
                // The same key is always of the same partition, so its order is Kafka's.
                let record = match message.key() {
                    Some(key) => record.key(key.as_bytes()),
                    None => record,
                };
                let report = self.producer.send_result(record);
                report.map_err(|(error, _)| judge(&error))
            })
            .collect();
        let mut answers = Vec::with_capacity(batch.len());
        for report in reports {
            answers.push(match report {
                Err(error) => Err(error),
                Ok(report) => match report.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err((error, _))) => Err(judge(&error)),
                    Err(_) => Err(PublishError::unknown("the client ended without a report")),
                },
            });
        }
        answers
    }
}

/// An error is about the message only where Kafka says so; all others are about the brokers, and
/// cost no message anything.
fn judge(error: &KafkaError) -> PublishError {
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
            PublishError::refused_for_good("it is too large for Kafka")
        }
        Some(Code::InvalidRecord | Code::InvalidMessage | Code::PolicyViolation) => {
            PublishError::refused("Kafka does not take it")
        }
        // It was not written: no room in the client, or something beside it was wrong.
        Some(Code::QueueFull | Code::InvalidDifferentRecord) => PublishError::skipped(),
        Some(Code::NotEnoughReplicasAfterAppend) => PublishError::unknown("too few replicas"),
        Some(code) => PublishError::down(format_args!("Kafka: {code:?}")),
        None => PublishError::down("the client"),
    }
}
