//! RabbitMQ, with a durable classic queue and persistent messages.

use buttress_outbox::{
    Delivery,
    consumer::{Handled, Received, Terms, rabbitmq::RabbitConsumer},
    publisher::rabbitmq::{
        RabbitConnection, RabbitPublisher,
        lapin::{
            BasicProperties, Channel, Connection, ConnectionProperties,
            options::{
                BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions,
                BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
            },
            types::FieldTable,
        },
    },
};
use buttress_testkit::rabbitmq::Server;
use futures_util::{StreamExt as _, future::join_all};

use super::{Broker, Effects, PATIENCE, TOPIC};

pub(super) struct Rabbit {
    _server: Server,
    ours: RabbitConnection,
    bare: Connection,
    confirming: Channel,
}

impl Rabbit {
    pub(super) async fn start() -> Self {
        let server = Server::start().unwrap();
        let ours = RabbitConnection::new(&server.url()).unwrap();
        let properties = ConnectionProperties::default();
        let bare = Connection::connect(&server.url(), properties)
            .await
            .unwrap();
        let confirming = bare.create_channel().await.unwrap();
        let select = ConfirmSelectOptions::default();
        confirming.confirm_select(select).await.unwrap();
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declaring = confirming.queue_declare(TOPIC.into(), durable, FieldTable::default());
        declaring.await.unwrap();
        Self {
            _server: server,
            ours,
            bare,
            confirming,
        }
    }
}

impl Broker for Rabbit {
    type Publisher = RabbitPublisher;

    const NAME: &'static str = "RabbitMQ";

    fn publisher(&self) -> RabbitPublisher {
        let publisher = RabbitPublisher::new(&self.ours, "").unwrap();
        publisher.with_patience(PATIENCE).unwrap()
    }

    async fn bare(&self, batch: &[Delivery]) {
        let mut confirms = Vec::with_capacity(batch.len());
        for delivery in batch {
            let message = delivery.message();
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(message.id().into());
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let sending = self.confirming.basic_publish(
                "".into(),
                TOPIC.into(),
                options,
                message.payload(),
                properties,
            );
            confirms.push(sending.await.unwrap());
        }
        for confirm in join_all(confirms).await {
            assert!(confirm.unwrap().is_ack());
        }
    }

    async fn consume(&self, effects: Effects) {
        let terms = Terms::new().with_batch(100).unwrap();
        let consumer = RabbitConsumer::new(&self.ours, TOPIC).unwrap();
        let done = effects.done.clone();
        let handler = |message: Received| {
            let effects = effects.clone();
            async move {
                effects.ours(message.inbox_id()).await;
                Handled::Done
            }
        };
        let consumer = consumer.with_terms(terms);
        consumer.run_until(done.notified(), handler).await;
    }

    async fn consume_bare(&self, effects: Effects) {
        let channel = self.bare.create_channel().await.unwrap();
        let qos = channel.basic_qos(100, BasicQosOptions::default());
        qos.await.unwrap();
        let options = BasicConsumeOptions::default();
        let arguments = FieldTable::default();
        let begun = channel.basic_consume(TOPIC.into(), "bare".into(), options, arguments);
        let mut messages = begun.await.unwrap();
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            let id = message.properties.message_id().as_ref().unwrap();
            effects.bare(id.as_str()).await;
            message.acker.ack(BasicAckOptions::default()).await.unwrap();
            if effects.is_done() {
                break;
            }
        }
        let cancel = channel.basic_cancel("bare".into(), BasicCancelOptions::default());
        cancel.await.unwrap();
        channel.close(200, "".into()).await.unwrap();
    }

    async fn empty(&self) {
        let purge = self
            .confirming
            .queue_purge(TOPIC.into(), QueuePurgeOptions::default());
        purge.await.unwrap();
    }
}
