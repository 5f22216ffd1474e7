//! Redis Streams, on a server that keeps a log of what it was told.

use buttress_outbox::{
    Delivery,
    consumer::{Handled, Received, Terms, redis_streams::RedisStreamConsumer},
    publisher::redis_streams::{RedisStreamPublisher, Trim},
};
use buttress_store::RedisConnection;
use buttress_testkit::redis::Server;
use redis::{
    Client,
    aio::MultiplexedConnection,
    streams::{StreamReadOptions, StreamReadReply},
};

use super::{Broker, Effects, TOPIC};

const STREAM: &str = "bench:stream:{orders}";
const GROUP: &str = "bench";

pub(super) struct Streams {
    _server: Server,
    publishing: MultiplexedConnection,
    consuming: MultiplexedConnection,
}

impl Streams {
    pub(super) async fn start() -> Self {
        let server = Server::start_appending().unwrap();
        let client = Client::open(server.url()).unwrap();
        Self {
            publishing: client.get_multiplexed_async_connection().await.unwrap(),
            consuming: client.get_multiplexed_async_connection().await.unwrap(),
            _server: server,
        }
    }
}

impl Broker for Streams {
    type Publisher = RedisStreamPublisher;

    const NAME: &'static str = "Redis Streams";

    fn publisher(&self) -> RedisStreamPublisher {
        let connection = RedisConnection::new(self.publishing.clone());
        RedisStreamPublisher::new(&connection, "bench", Trim::Nothing).unwrap()
    }

    async fn bare(&self, batch: &[Delivery]) {
        let mut pipeline = redis::pipe();
        for delivery in batch {
            let message = delivery.message();
            pipeline
                .cmd("XADD")
                .arg(STREAM)
                .arg("*")
                .arg("id")
                .arg(message.id())
                .arg("data")
                .arg(&message.payload()[..]);
        }
        let mut connection = self.publishing.clone();
        let ids: Vec<String> = pipeline.query_async(&mut connection).await.unwrap();
        assert_eq!(ids.len(), batch.len());
    }

    async fn consume(&self, effects: Effects) {
        let terms = Terms::new().with_batch(100).unwrap();
        let connection = RedisConnection::new(self.consuming.clone());
        let consumer = RedisStreamConsumer::new(&connection, "bench", TOPIC, GROUP, "one");
        let done = effects.done.clone();
        let handler = |message: Received| {
            let effects = effects.clone();
            async move {
                effects.ours(message.inbox_id()).await;
                Handled::Done
            }
        };
        let consumer = consumer.unwrap().with_terms(terms);
        consumer.run_until(done.notified(), handler).await;
    }

    async fn consume_bare(&self, effects: Effects) {
        let mut connection = self.consuming.clone();
        let mut make = redis::cmd("XGROUP");
        make.arg(&["CREATE", STREAM, GROUP, "0"]);
        make.exec_async(&mut connection).await.unwrap();
        let options = StreamReadOptions::default().group(GROUP, "one").count(100);
        while !effects.is_done() {
            let mut read = redis::cmd("XREADGROUP");
            read.arg(&options).arg("STREAMS").arg(STREAM).arg(">");
            let reply: StreamReadReply = read.query_async(&mut connection).await.unwrap();
            for entry in reply.keys.into_iter().flat_map(|stream| stream.ids) {
                let id: String = entry.get("id").unwrap();
                effects.bare(&id).await;
                let mut acknowledge = redis::cmd("XACK");
                acknowledge.arg(STREAM).arg(GROUP).arg(&entry.id);
                acknowledge.exec_async(&mut connection).await.unwrap();
            }
        }
    }

    async fn empty(&self) {
        let mut connection = self.publishing.clone();
        let mut delete = redis::cmd("DEL");
        delete.arg(STREAM);
        delete.exec_async(&mut connection).await.unwrap();
    }
}
