//! Telling others what became of orders: a relay takes it from the outbox to the subscriber, as
//! signed webhooks or through a stream, for as long as it takes.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use buttress_outbox::{
    Delivery, MetricsObserver, Outbox, PublishError, PublishOrder, Publisher, Relay, RelayPolicy,
    TopicPolicy, TraceEvents,
    publisher::http::{Addresses, Endpoint, HttpClient, HttpPublisher},
    webhook::{Secret, Signer},
};
use buttress_retry_backoff::Backoff;

use crate::{event::TOPIC, telemetry, upstreams::SUBSCRIBER_PATH};

/// What a dead process held is free again after this long.
const LEASE: Duration = Duration::from_secs(4);
/// How long the relay waits before it looks again, where nobody woke it: others' orders.
const POLL: Duration = Duration::from_millis(500);
/// How long the subscriber may take for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How many a worker has at once: what a stop waits for.
const BATCH: u32 = 64;
/// How many of them are under way together. The subscriber commits one after the other, and shares
/// its connections to the database with the shop.
const AT_ONCE: usize = 4;
/// A subscriber that was away has what it missed soon after it is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// What is down is asked without limit. This is for a message that is refused: a quarter of an hour.
const ATTEMPTS: u32 = 1000;

/// What tells the subscriber at `address`.
pub(crate) fn webhooks(address: SocketAddr, secret: Secret) -> anyhow::Result<HttpPublisher> {
    // Elsewhere only public addresses are allowed. This subscriber is in the same process.
    let loopback = Addresses::public().allow(address.ip().into());
    let client = HttpClient::builder().addresses(loopback).build()?;
    let url = format!("http://{address}{SUBSCRIBER_PATH}");
    let endpoint = Endpoint::builder(url, Signer::new([secret])?)
        .allow_http()
        .timeout(ANSWER);
    Ok(HttpPublisher::new(&client, endpoint.build()?)?.with_concurrency(AT_ONCE)?)
}

/// The relay of this instance to wherever `publisher` publishes, which takes at most `longest`
/// over a batch.
pub(crate) fn relay(
    outbox: &Outbox,
    publisher: impl Publisher,
    longest: Duration,
) -> anyhow::Result<Relay> {
    let backoff = Backoff::exponential(Duration::from_millis(100)).with_cap(LONGEST_PAUSE);
    let topic = TopicPolicy::new()
        .with_attempts(ATTEMPTS)
        // Whoever dies here was killed, as often as it likes.
        .with_lapses(ATTEMPTS)
        .with_backoff(backoff.clone())
        .with_outage_backoff(backoff)
        .with_longest_wait(LONGEST_PAUSE);
    let policy = RelayPolicy::new()
        .with_lease(LEASE)
        .with_poll(POLL)
        .with_batch(BATCH)
        .with_publish_deadline(longest);
    let relay = Relay::builder(outbox).policy(policy);
    let relay = relay.topic_with(TOPIC, topic, Traced(publisher));
    Ok(relay
        .observe(TraceEvents)
        .observe(MetricsObserver::new())
        .build()?)
}

/// A publisher whose deliveries are spans, each of the trace in which its event happened.
struct Traced<P>(P);

#[async_trait]
impl<P: Publisher> Publisher for Traced<P> {
    fn order(&self) -> PublishOrder {
        self.0.order()
    }

    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let spans = batch.iter().map(|delivery| {
            let message = delivery.message();
            let name = format!("relay {}", message.event_type());
            let span = tracing::info_span!("relay", otel.name = name, otel.kind = "producer");
            telemetry::follow(&span, message.traceparent());
            span
        });
        let _spans: Vec<_> = spans.collect();
        self.0.publish(batch).await
    }
}
