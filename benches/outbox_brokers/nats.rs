//! NATS JetStream, with a stream in files.

use buttress_outbox::{
    Delivery,
    consumer::{Handled, Terms, nats::NatsConsumer},
    publisher::nats::{
        NatsPublisher, Subjects,
        async_nats::{
            self, Client, HeaderMap,
            jetstream::{self, consumer::pull, message::PublishMessage, stream},
        },
    },
};
use buttress_testkit::nats::Server;
use futures_util::{StreamExt as _, future::join_all};

use super::{Broker, Effects, PATIENCE};

const STREAM: &str = "BENCH";

pub(super) struct Nats {
    _server: Server,
    client: Client,
    context: jetstream::Context,
}

impl Nats {
    pub(super) async fn start() -> Self {
        let server = Server::start().unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let context = jetstream::new(client.clone());
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["bench.>".to_owned()],
            ..stream::Config::default()
        };
        context.create_stream(config).await.unwrap();
        Self {
            _server: server,
            client,
            context,
        }
    }

    async fn pull(&self) -> jetstream::consumer::PullConsumer {
        let stream = self.context.get_stream(STREAM).await.unwrap();
        let config = pull::Config {
            durable_name: Some("bench".to_owned()),
            ..pull::Config::default()
        };
        // The position of the last one is gone with it.
        let _ = stream.delete_consumer("bench").await;
        stream.create_consumer(config).await.unwrap()
    }
}

impl Broker for Nats {
    type Publisher = NatsPublisher;

    const NAME: &'static str = "NATS JetStream";

    fn publisher(&self) -> NatsPublisher {
        let subjects = Subjects::new("bench.{topic}").unwrap();
        let publisher = NatsPublisher::new(self.context.clone(), STREAM, subjects);
        publisher.unwrap().with_timeout(PATIENCE).unwrap()
    }

    async fn bare(&self, batch: &[Delivery]) {
        let mut confirms = Vec::with_capacity(batch.len());
        for delivery in batch {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", delivery.message().id());
            let publish = PublishMessage::build()
                .payload(delivery.message().payload().clone())
                .headers(headers);
            let sent = self.context.send_publish("bench.orders", publish).await;
            confirms.push(sent.unwrap().into_future());
        }
        for confirm in join_all(confirms).await {
            confirm.unwrap();
        }
    }

    async fn consume(&self, effects: Effects) {
        let terms = Terms::new().with_batch(100).unwrap();
        let consumer = NatsConsumer::new(self.client.clone(), self.pull().await).with_terms(terms);
        let done = effects.done.clone();
        let handler = |message: buttress_outbox::consumer::Received| {
            let effects = effects.clone();
            async move {
                effects.ours(message.inbox_id()).await;
                Handled::Done
            }
        };
        consumer.run_until(done.notified(), handler).await;
    }

    async fn consume_bare(&self, effects: Effects) {
        let consumer = self.pull().await;
        while !effects.is_done() {
            let mut some = consumer.fetch().max_messages(100).messages().await.unwrap();
            while let Some(message) = some.next().await {
                let message = message.unwrap();
                let id = message.headers.as_ref().unwrap().get("Nats-Msg-Id");
                effects.bare(id.unwrap().as_str()).await;
                message.ack().await.unwrap();
            }
        }
        self.client.flush().await.unwrap();
    }

    async fn empty(&self) {
        let stream = self.context.get_stream(STREAM).await.unwrap();
        stream.purge().await.unwrap();
    }
}
