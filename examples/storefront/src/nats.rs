//! NATS JetStream between the shop and the subscriber: the relay publishes to a stream, and a
//! consumer takes each event from there to the subscriber.

use std::time::Duration;

use anyhow::anyhow;
use buttress_outbox::{
    Publisher,
    consumer::{Terms, hand_to, nats::NatsConsumer},
    publisher::nats::{
        NatsPublisher, Subjects,
        async_nats::{
            Client, ConnectOptions,
            connection::State,
            jetstream::{
                self,
                consumer::{AckPolicy, PullConsumer, pull},
                stream::{self, DiscardPolicy, RetentionPolicy},
            },
        },
    },
};
use buttress_retry_backoff::Backoff;
use tokio_util::sync::CancellationToken;

/// The stream, which instances of one shop share.
const STREAM: &str = "STOREFRONT";
/// The subscriber's place in it.
const DURABLE: &str = "subscriber";
/// A subscriber that is away for so many bytes leaves the rest in the outbox.
const MOST_BYTES: i64 = 64 << 20;
/// What an instance that died was telling is told by another after this long. Longer than the
/// subscriber may take.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// After an outage the server is looked for this often at least, and the subscriber too.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The one connection of this instance.
#[derive(Clone, Debug)]
pub(crate) struct Nats {
    client: Client,
    context: jetstream::Context,
}

impl Nats {
    /// Does not wait for a connection: nothing here needs the server to be there.
    pub(crate) async fn new(url: &str) -> anyhow::Result<Self> {
        let options = ConnectOptions::new()
            .retry_on_initial_connect()
            .reconnect_delay_callback(|attempt| {
                let pause = Duration::from_millis(50)
                    .saturating_mul(attempt.try_into().unwrap_or(u32::MAX));
                pause.min(LONGEST_PAUSE)
            });
        // Its own error may hold the URL, and that a password.
        let client = options.connect(url).await;
        let client = client.map_err(|_| anyhow!("the NATS URL cannot be read"))?;
        let context = jetstream::new(client.clone());
        Ok(Self { client, context })
    }

    /// Whether there is no connection just now: events wait in the outbox, and shoppers for nothing.
    pub(crate) fn is_away(&self) -> bool {
        self.client.connection_state() != State::Connected
    }

    /// What the relay publishes by.
    pub(crate) fn publisher(&self) -> anyhow::Result<NatsPublisher> {
        let subjects = Subjects::new("storefront.{topic}")?;
        Ok(NatsPublisher::new(self.context.clone(), STREAM, subjects)?)
    }

    /// Makes the stream where it is not, and hands what is in it to `subscriber`, until `stop`.
    pub(crate) async fn consume_until(self, subscriber: impl Publisher, stop: CancellationToken) {
        let consumer = loop {
            let set_up = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                set_up = self.set_up() => set_up,
            };
            match set_up {
                Ok(consumer) => break consumer,
                Err(error) => tracing::warn!(%error, "the stream is not there yet"),
            }
            tokio::time::sleep(LONGEST_PAUSE / 4).await;
        };
        let backoff = Backoff::exponential(Duration::from_millis(100)).with_cap(LONGEST_PAUSE);
        let terms = Terms::new().with_backoff(backoff);
        let consumer = NatsConsumer::new(self.client.clone(), consumer).with_terms(terms);
        let hand_on = hand_to(subscriber);
        consumer.run_until(stop.cancelled(), hand_on).await;
    }

    async fn set_up(&self) -> anyhow::Result<PullConsumer> {
        let stream = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["storefront.>".to_owned()],
            // What the subscriber has taken goes; what it has not stays, and what has no room
            // stays in the outbox.
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            max_bytes: MOST_BYTES,
            ..stream::Config::default()
        };
        let stream = self.context.get_or_create_stream(stream).await?;
        let consumer = pull::Config {
            durable_name: Some(DURABLE.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // One after the other, whoever asks: an order's events stay in order.
            max_ack_pending: 1,
            ..pull::Config::default()
        };
        Ok(stream.get_or_create_consumer(DURABLE, consumer).await?)
    }
}
