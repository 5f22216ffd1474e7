//! As much of rdkafka 0.39 as the how-to uses, with reports that a test chooses.

#![expect(
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    dead_code,
    unreachable_pub,
    reason = "it has the names and the fields of the client that it stands for"
)]

pub mod error {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum RDKafkaErrorCode {
        InvalidDifferentRecord,
        InvalidMessage,
        InvalidMessageSize,
        InvalidRecord,
        MessageSizeTooLarge,
        MessageTimedOut,
        NotEnoughReplicasAfterAppend,
        PolicyViolation,
        QueueFull,
        TopicAuthorizationFailed,
    }

    #[derive(Clone, Debug)]
    pub enum KafkaError {
        Canceled,
        MessageProduction(RDKafkaErrorCode),
    }

    impl KafkaError {
        pub fn rdkafka_error_code(&self) -> Option<RDKafkaErrorCode> {
            match self {
                Self::Canceled => None,
                Self::MessageProduction(code) => Some(*code),
            }
        }
    }
}

pub mod message {
    #[derive(Debug)]
    pub struct Header<'a, V> {
        pub key: &'a str,
        pub value: Option<V>,
    }

    #[derive(Debug, Default)]
    pub struct OwnedHeaders(pub(super) Vec<String>);

    impl OwnedHeaders {
        pub fn new() -> Self {
            Self::default()
        }

        #[must_use]
        pub fn insert<V: ?Sized>(mut self, header: Header<'_, &V>) -> Self {
            assert!(header.value.is_some());
            self.0.push(header.key.to_owned());
            self
        }
    }

    #[derive(Debug)]
    pub struct OwnedMessage;
}

pub mod producer {
    use std::{
        collections::VecDeque,
        future::{Ready, ready},
        sync::{Arc, Mutex},
    };

    use super::{
        error::{KafkaError, RDKafkaErrorCode},
        message::{OwnedHeaders, OwnedMessage},
    };

    /// What becomes of a record.
    #[derive(Clone, Copy, Debug)]
    pub enum Report {
        Delivered,
        NotQueued(RDKafkaErrorCode),
        Failed(RDKafkaErrorCode),
        Canceled,
    }

    #[derive(Debug)]
    pub struct Delivery {
        pub partition: i32,
        pub offset: i64,
    }

    #[derive(Debug)]
    pub struct Canceled;

    pub type OwnedDeliveryResult = Result<Delivery, (KafkaError, OwnedMessage)>;
    pub type DeliveryFuture = Ready<Result<OwnedDeliveryResult, Canceled>>;

    #[derive(Debug)]
    pub struct FutureRecord<'a, K: ?Sized, P: ?Sized> {
        pub topic: &'a str,
        pub payload: Option<&'a P>,
        pub key: Option<&'a K>,
        pub headers: Option<OwnedHeaders>,
    }

    impl<'a, K: ?Sized, P: ?Sized> FutureRecord<'a, K, P> {
        pub fn to(topic: &'a str) -> Self {
            Self {
                topic,
                payload: None,
                key: None,
                headers: None,
            }
        }

        #[must_use]
        pub fn payload(mut self, payload: &'a P) -> Self {
            self.payload = Some(payload);
            self
        }

        #[must_use]
        pub fn key(mut self, key: &'a K) -> Self {
            self.key = Some(key);
            self
        }

        #[must_use]
        pub fn headers(mut self, headers: OwnedHeaders) -> Self {
            self.headers = Some(headers);
            self
        }
    }

    #[derive(Clone, Debug)]
    pub struct FutureProducer {
        reports: Arc<Mutex<VecDeque<Report>>>,
        sent: Arc<Mutex<Vec<String>>>,
    }

    impl FutureProducer {
        pub fn of(reports: impl IntoIterator<Item = Report>) -> Self {
            Self {
                reports: Arc::new(Mutex::new(reports.into_iter().collect())),
                sent: Arc::default(),
            }
        }

        /// Of each record topic, key, payload and the headers' names.
        pub fn sent(&self) -> Vec<String> {
            self.sent.lock().unwrap().clone()
        }

        pub fn send_result<'a>(
            &self,
            record: FutureRecord<'a, [u8], [u8]>,
        ) -> Result<DeliveryFuture, (KafkaError, FutureRecord<'a, [u8], [u8]>)> {
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or_else(|| "-".into(), |it| String::from_utf8(it.to_vec()).unwrap())
            };
            let mut words = vec![record.topic.to_owned()];
            words.push(text(record.key));
            words.push(text(record.payload));
            words.extend(record.headers.iter().flat_map(|it| it.0.clone()));
            self.sent.lock().unwrap().push(words.join(" "));
            let failed = KafkaError::MessageProduction;
            Ok(ready(
                match self.reports.lock().unwrap().pop_front().unwrap() {
                    Report::NotQueued(code) => return Err((failed(code), record)),
                    Report::Delivered => Ok(Ok(Delivery {
                        partition: 0,
                        offset: 0,
                    })),
                    Report::Failed(code) => Ok(Err((failed(code), OwnedMessage))),
                    Report::Canceled => Err(Canceled),
                },
            ))
        }
    }
}
