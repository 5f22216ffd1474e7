//! A stream of one's own, a publisher to it, and a relay.

use std::time::Duration;

use async_nats::{
    Client, ConnectOptions,
    jetstream::{self, consumer::pull, stream},
};
use buttress_outbox::{
    Delivery, Message, MessageBuilder, Outbox, PublishError, PublishErrorKind, Publisher as _,
    Relay, RelayBuilder, RelayPolicy, TopicPolicy,
    consumer::{
        Received, Terms,
        nats::{NatsConsumer, read},
    },
    publisher::nats::{NatsPublisher, Subjects},
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::nats::{Server, fresh_name};
use futures_util::StreamExt as _;

use crate::lab::TOPIC;

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A client that is back soon after the server is.
pub(crate) async fn client(url: &str) -> Client {
    let options = ConnectOptions::new();
    let options = options.reconnect_delay_callback(|_| Duration::from_millis(20));
    options.connect(url).await.unwrap()
}

/// A stream that takes `<name>.>`.
#[derive(Clone, Debug)]
pub(crate) struct Stand {
    pub(crate) client: Client,
    pub(crate) context: jetstream::Context,
    pub(crate) name: String,
}

/// A private server, where NATS is there. Where it is not, the gap is registered.
pub(crate) fn server() -> Option<Server> {
    fresh_name()?;
    Some(Server::start().unwrap())
}

impl Stand {
    /// On the server that tests share, where it is there.
    pub(crate) async fn shared() -> Option<Self> {
        let name = fresh_name()?;
        Some(Self::at(name.url(), name.as_str(), |_| {}).await)
    }

    /// The same with another configuration.
    pub(crate) async fn shared_with(change: impl FnOnce(&mut stream::Config)) -> Option<Self> {
        let name = fresh_name()?;
        Some(Self::at(name.url(), name.as_str(), change).await)
    }

    pub(crate) async fn at(
        url: &str,
        name: &str,
        change: impl FnOnce(&mut stream::Config),
    ) -> Self {
        let client = client(url).await;
        let context = jetstream::new(client.clone());
        let mut config = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            // No test may depend on how fast it is.
            duplicate_window: Duration::from_secs(600),
            ..stream::Config::default()
        };
        change(&mut config);
        context.get_or_create_stream(config).await.unwrap();
        Self {
            client,
            context,
            name: name.to_owned(),
        }
    }

    /// A publisher under `<name>.<template>`.
    pub(crate) fn publisher(&self, template: &str) -> NatsPublisher {
        let subjects = Subjects::new(format!("{}.{template}", self.name)).unwrap();
        let publisher = NatsPublisher::new(self.context.clone(), &self.name, subjects);
        // Where silence is not the point, a loaded machine has time.
        publisher.unwrap().with_timeout(PATIENCE).unwrap()
    }

    /// How many messages the stream holds.
    pub(crate) async fn held(&self) -> u64 {
        let stream = self.context.get_stream(&self.name).await.unwrap();
        stream.cached_info().state.messages
    }

    /// A durable consumer that hands out one message at a time.
    pub(crate) async fn pull(&self, durable: &str, ack_wait: Duration) -> pull::Config {
        let config = pull::Config {
            durable_name: Some(durable.to_owned()),
            ack_wait,
            max_ack_pending: 1,
            ..pull::Config::default()
        };
        let stream = self.context.get_stream(&self.name).await.unwrap();
        stream.create_consumer(config.clone()).await.unwrap();
        config
    }

    /// The loop of that consumer.
    pub(crate) async fn consumer(&self, durable: &str) -> NatsConsumer {
        let stream = self.context.get_stream(&self.name).await.unwrap();
        let consumer = stream.get_consumer(durable).await.unwrap();
        let terms = Terms::new().with_backoff(soon());
        NatsConsumer::new(self.client.clone(), consumer).with_terms(terms)
    }

    /// All that the stream holds, as it is.
    pub(crate) async fn raw(&self) -> Vec<jetstream::Message> {
        let many = usize::try_from(self.held().await).unwrap();
        let stream = self.context.get_stream(&self.name).await.unwrap();
        let consumer = stream
            .create_consumer(pull::Config::default())
            .await
            .unwrap();
        let messages = consumer.fetch().max_messages(many.max(1)).messages().await;
        let messages = messages.unwrap().take(many).map(Result::unwrap);
        messages.collect().await
    }

    /// All that the stream holds, read.
    pub(crate) async fn all(&self) -> Vec<Received> {
        let raw = self.raw().await;
        raw.iter().map(|message| read(message).unwrap()).collect()
    }
}

pub(crate) fn soon() -> Backoff {
    Backoff::constant(Duration::from_millis(20))
}

pub(crate) fn base() -> MessageBuilder {
    Message::builder("orders", "/shop", "order.placed")
}

pub(crate) fn delivery(message: Message) -> Delivery {
    Delivery::new(message, 1, 1, std::time::SystemTime::UNIX_EPOCH)
}

/// Publishes messages in one batch, and says of each what became of it.
pub(crate) async fn publish(
    publisher: &NatsPublisher,
    messages: impl IntoIterator<Item = Message>,
) -> Vec<Result<(), PublishError>> {
    let batch: Vec<_> = messages.into_iter().map(delivery).collect();
    let answers = publisher.publish(&batch).await;
    assert_eq!(answers.len(), batch.len());
    answers
}

/// The same for one message.
pub(crate) async fn publish_one(
    publisher: &NatsPublisher,
    message: MessageBuilder,
) -> Result<(), PublishErrorKind> {
    let answers = publish(publisher, [message.build().unwrap()]).await;
    let [answer] = <[_; 1]>::try_from(answers).unwrap();
    answer.map_err(|error| error.kind())
}

/// A relay of the lab's topic, for which one verdict is death: what dies was blamed.
pub(crate) fn builder(outbox: &Outbox, publisher: NatsPublisher) -> RelayBuilder {
    let policy = TopicPolicy::new()
        .with_attempts(1)
        .with_backoff(soon())
        .with_outage_backoff(soon());
    let relay = RelayPolicy::new()
        .with_poll(Duration::from_millis(20))
        .with_lease(Duration::from_secs(2))
        .with_publish_deadline(publisher.longest_publish());
    Relay::builder(outbox)
        .policy(relay)
        .topic_with(TOPIC, policy, publisher)
}
