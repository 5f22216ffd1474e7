//! The three brokers behind one face: a place for messages of the test's own on each, and what
//! consumes from it.

use std::{sync::Mutex, time::Duration};

use async_nats::{Subscriber, jetstream};
use buttress_outbox::{
    Publisher as _,
    consumer::{
        Handled, Received, Terms, nats::NatsConsumer, rabbitmq::RabbitConsumer,
        redis_streams::RedisStreamConsumer,
    },
    publisher::{
        rabbitmq::{
            RabbitConnection, RabbitPublisher,
            lapin::{
                BasicProperties,
                options::{BasicPublishOptions, QueueDeclareOptions},
                types::{AMQPValue, FieldTable},
            },
        },
        redis_streams::{RedisStreamPublisher, Trim},
    },
};
use buttress_store::RedisConnection;
use buttress_testkit::redis::Prefix;
use futures_util::{FutureExt as _, StreamExt as _};
use redis::Value;

use super::{delivery, message, rabbitmq, redis_streams};
use crate::{
    lab::TOPIC,
    nats::stand::{Stand, client},
};

const DURABLE: &str = "consumer";
const GROUP: &str = "group";

/// A place for messages, on a broker that tests share.
pub(super) enum Broker {
    Nats {
        stand: Stand,
        url: String,
        /// Where the server says which messages were put aside.
        aside: Mutex<(Subscriber, Vec<u64>)>,
    },
    Rabbit {
        bench: rabbitmq::Bench,
        url: String,
        queue: String,
    },
    Redis {
        connection: RedisConnection,
        prefix: Prefix,
        lapse: Lapse,
    },
}

/// What consumes from it.
pub(super) enum Consumer {
    Nats(Box<NatsConsumer>),
    Rabbit(RabbitConsumer),
    Redis(RedisStreamConsumer),
}

/// After how long a broker that goes by time thinks that a consumer is dead.
#[derive(Clone, Copy)]
pub(super) struct Lapse(pub(super) Duration);

impl Lapse {
    /// Longer than any test.
    pub(super) const NEVER: Self = Self(Duration::from_secs(12 * 60 * 60));
}

impl Broker {
    pub(super) async fn nats(lapse: Lapse) -> Option<Self> {
        let stand = Stand::shared().await?;
        let url = buttress_testkit::nats::shared_url().ok()?;
        let stream = stand.context.get_stream(&stand.name).await.unwrap();
        let config = jetstream::consumer::pull::Config {
            durable_name: Some(DURABLE.to_owned()),
            ack_wait: lapse.0,
            max_ack_pending: 1000,
            ..jetstream::consumer::pull::Config::default()
        };
        stream.create_consumer(config).await.unwrap();
        let name = &stand.name;
        let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{name}.{DURABLE}");
        let aside = stand.client.subscribe(subject).await.unwrap();
        stand.client.flush().await.unwrap();
        let aside = Mutex::new((aside, Vec::new()));
        Some(Self::Nats { stand, url, aside })
    }

    /// A quorum queue with these arguments, the last of a name counts, and a queue for dead letters.
    pub(super) async fn rabbit(arguments: &[(&str, AMQPValue)]) -> Option<Self> {
        let (name, bench, _) = rabbitmq::fresh().await?;
        let queue = name.as_str().to_owned();
        let dead = format!("{queue}-dead");
        bench.queue(&dead, &[]).await;
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut all = vec![
            ("x-queue-type", text("quorum")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&dead)),
        ];
        all.extend_from_slice(arguments);
        bench.queue(&queue, &all).await;
        let url = name.url().to_owned();
        Some(Self::Rabbit { bench, url, queue })
    }

    pub(super) async fn redis(lapse: Lapse) -> Option<Self> {
        let (prefix, connection) = redis_streams::fresh().await?;
        Some(Self::Redis {
            connection,
            prefix,
            lapse,
        })
    }

    pub(super) fn url(&self) -> &str {
        match self {
            Self::Nats { url, .. } | Self::Rabbit { url, .. } => url,
            Self::Redis { prefix, .. } => prefix.url(),
        }
    }

    /// Publishes messages whose ids are these numbers, as a relay does.
    pub(super) async fn publish(&self, ids: std::ops::RangeInclusive<i64>) {
        let batch: Vec<_> = ids
            .map(|n| delivery(n, message("t").id(n.to_string()).json(&n)))
            .collect();
        let sent = match self {
            Self::Nats { stand, .. } => stand.publisher("{topic}").publish(&batch).await,
            Self::Rabbit { url, queue, .. } => {
                let connection = RabbitConnection::new(url).unwrap();
                let (publisher, queue) = (RabbitPublisher::new(&connection, ""), queue.clone());
                let publisher = publisher.unwrap().with_routing(move |_| queue.clone());
                publisher.publish(&batch).await
            }
            Self::Redis {
                connection, prefix, ..
            } => {
                let prefix = redis_streams::prefix_of(prefix);
                let publisher = RedisStreamPublisher::new(connection, prefix, Trim::Nothing);
                publisher.unwrap().publish(&batch).await
            }
        };
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    }

    /// Somebody who knows nothing of events puts bytes there, also some that look like one.
    pub(super) async fn a_stranger_writes(&self) {
        match self {
            Self::Nats { stand, .. } => {
                let subject = format!("{}.{TOPIC}", stand.name);
                let mut halves = async_nats::HeaderMap::new();
                halves.insert("ce-specversion", "1.0");
                halves.insert("ce-id", "%ff");
                for headers in [async_nats::HeaderMap::new(), halves] {
                    let sent = stand.context.publish_with_headers(
                        subject.clone(),
                        headers,
                        vec![0xff, 0].into(),
                    );
                    sent.await.unwrap().await.unwrap();
                }
            }
            Self::Rabbit { bench, queue, .. } => {
                let mut halves = FieldTable::default();
                for (name, value) in [
                    (
                        "cloudEvents_id",
                        AMQPValue::LongString([0xff_u8].as_slice().into()),
                    ),
                    ("cloudEvents_type", AMQPValue::Boolean(true)),
                    ("x-delivery-count", AMQPValue::LongString("many".into())),
                ] {
                    halves.insert(name.into(), value);
                }
                for headers in [FieldTable::default(), halves] {
                    let sent = bench.channel.basic_publish(
                        "".into(),
                        queue.as_str().into(),
                        BasicPublishOptions::default(),
                        &[0xff, 0],
                        BasicProperties::default().with_headers(headers),
                    );
                    sent.await.unwrap().await.unwrap();
                }
            }
            Self::Redis {
                connection, prefix, ..
            } => {
                let stream = redis_streams::stream(redis_streams::prefix_of(prefix));
                for (name, value) in [("not", "an event"), ("id", "1")] {
                    let words = ["XADD", &stream, "*", name, value];
                    let _: String = redis_streams::ask(connection, &words).await;
                }
                let mut add = redis::cmd("XADD");
                add.arg(&stream).arg("*").arg(&[0xff][..]).arg(&[0xff][..]);
                let mut connection = connection.clone();
                let _: Value = add.query_async(&mut connection).await.unwrap();
            }
        }
    }

    /// How many entries a stranger writes.
    pub(super) const fn strange(&self) -> usize {
        match self {
            Self::Nats { .. } | Self::Rabbit { .. } => 2,
            Self::Redis { .. } => 3,
        }
    }

    /// A consumer of this name, over a connection of its own to this address.
    pub(super) async fn consumer_at(&self, url: &str, name: &str) -> Consumer {
        match self {
            Self::Nats { stand, .. } => {
                let client = client(url).await;
                let context = jetstream::new(client.clone());
                let stream = context.get_stream(&stand.name).await.unwrap();
                let consumer = stream.get_consumer(DURABLE).await.unwrap();
                Consumer::Nats(Box::new(NatsConsumer::new(client, consumer)))
            }
            Self::Rabbit { queue, .. } => {
                let connection = RabbitConnection::new(url).unwrap();
                Consumer::Rabbit(RabbitConsumer::new(&connection, queue).unwrap())
            }
            Self::Redis { prefix, lapse, .. } => {
                let connection = redis_streams::connection(url).await;
                let prefix = redis_streams::prefix_of(prefix);
                let consumer = RedisStreamConsumer::new(&connection, prefix, TOPIC, GROUP, name);
                Consumer::Redis(consumer.unwrap().with_lapse(lapse.0).unwrap())
            }
        }
    }

    pub(super) async fn consumer(&self, name: &str) -> Consumer {
        self.consumer_at(self.url(), name).await
    }

    /// Whether nothing waits to be given out, and nothing is given out and not acknowledged. To be
    /// asked when all were given out.
    pub(super) async fn is_empty(&self) -> bool {
        match self {
            Self::Nats { stand, .. } => {
                let stream = stand.context.get_stream(&stand.name).await.unwrap();
                let info = stream.consumer_info(DURABLE).await.unwrap();
                info.num_pending == 0 && info.num_ack_pending == 0
            }
            Self::Rabbit { bench, queue, .. } => {
                let options = QueueDeclareOptions {
                    passive: true,
                    ..QueueDeclareOptions::default()
                };
                let arguments = FieldTable::default();
                let declared =
                    bench
                        .channel
                        .queue_declare(queue.as_str().into(), options, arguments);
                declared.await.unwrap().message_count() == 0
            }
            Self::Redis {
                connection, prefix, ..
            } => redis_streams::pending(connection, redis_streams::prefix_of(prefix)).await == 0,
        }
    }

    /// How many messages were put aside.
    pub(super) async fn aside(&self) -> usize {
        match self {
            Self::Nats { aside, .. } => {
                let mut aside = aside.lock().unwrap();
                let (words, sequences) = &mut *aside;
                while let Some(Some(word)) = words.next().now_or_never() {
                    let word: serde_json::Value = serde_json::from_slice(&word.payload).unwrap();
                    sequences.push(word["stream_seq"].as_u64().unwrap());
                }
                sequences.len()
            }
            Self::Rabbit { bench, queue, .. } => {
                let options = QueueDeclareOptions {
                    passive: true,
                    ..QueueDeclareOptions::default()
                };
                let dead = format!("{queue}-dead");
                let declared =
                    bench
                        .channel
                        .queue_declare(dead.into(), options, FieldTable::default());
                usize::try_from(declared.await.unwrap().message_count()).unwrap()
            }
            Self::Redis {
                connection, prefix, ..
            } => {
                let dead = redis_streams::stream(redis_streams::prefix_of(prefix)) + ":dead";
                redis_streams::ask(connection, &["XLEN", &dead]).await
            }
        }
    }
}

impl Consumer {
    pub(super) async fn run<H, Fut>(
        self,
        terms: Terms,
        shutdown: impl Future<Output = ()> + Send,
        handle: H,
    ) where
        H: Fn(Received) -> Fut + Send + Sync,
        Fut: Future<Output = Handled> + Send,
    {
        match self {
            Self::Nats(it) => Box::pin(it.with_terms(terms).run_until(shutdown, handle)).await,
            Self::Rabbit(it) => Box::pin(it.with_terms(terms).run_until(shutdown, handle)).await,
            Self::Redis(it) => Box::pin(it.with_terms(terms).run_until(shutdown, handle)).await,
        }
    }
}
