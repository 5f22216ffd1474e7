//! The publisher: a batch on a channel of its own, all of it sent, and then all confirms awaited.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, options::BasicPublishOptions, types::ShortString,
};
use tokio::time::{Instant, error::Elapsed, sleep, timeout_at};

use super::{
    RabbitConnection,
    answer::{self, Confirmed, Returned},
    connection::Live,
    event,
};
use crate::{
    Delivery, Message, PolicyError, PublishError, Publisher, policy, publisher::attributes,
};

/// How long a batch may take, unless told otherwise: less than a relay gives it.
const PATIENCE: Duration = Duration::from_secs(8);
/// What a frame has around its contents, and a header beside its table.
const AROUND: usize = 2048;

type Routing = dyn Fn(&Message) -> String + Send + Sync;

/// Publishes to an exchange of RabbitMQ, and believes what the broker confirms. Cheap to clone.
///
/// | the broker | becomes |
/// | --- | --- |
/// | confirms it, and has not returned it | delivered |
/// | returns it: no queue is bound for it (it confirms it all the same) | the message is refused, and that counts |
/// | rejects it (nack): a queue is full and rejects, or failed | unknown: its key waits, nothing counts |
/// | closes the channel with 406 over it alone: too long for the broker | the message is refused, and that counts |
/// | closes the channel or the connection otherwise, is not reached, blocks publishers | down |
/// | is silent for too long | down; the next batch gets another connection |
///
/// A message that does not fit is refused for good without being sent: its routing key is longer
/// than 255 bytes, or its headers than a frame.
///
/// The routing key is the topic's name unless you say otherwise. Neither key nor tenant is in it, and
/// a message's own headers cannot take the place of attributes or route it. Attributes are headers
/// `cloudEvents_…`, persistent like the message; the ordering key is `cloudEvents_partitionkey`, by
/// which a consistent hash exchange can spread keys over queues.
///
/// Dropping the future of [`publish`](Publisher::publish) closes the channel; the broker may have
/// taken the messages or not.
#[derive(Clone)]
pub struct RabbitPublisher {
    connection: RabbitConnection,
    exchange: ShortString,
    routing: Arc<Routing>,
    mandatory: bool,
    patience: Duration,
}

/// A message that is ready to be sent.
struct Ready {
    routing_key: ShortString,
    properties: BasicProperties,
    payload: Bytes,
    /// By which it is known again when it is returned.
    sequence: String,
}

impl RabbitPublisher {
    /// A publisher to the exchange of this name, which exists; `""` is the default exchange, which
    /// routes to the queue that is called like the routing key.
    ///
    /// # Errors
    ///
    /// When the name is longer than 255 bytes.
    pub fn new(connection: &RabbitConnection, exchange: &str) -> Result<Self, PolicyError> {
        let exchange = ShortString::try_new(exchange)
            .map_err(|_| PolicyError::new("exchange", "0 to 255 bytes"))?;
        Ok(Self {
            connection: connection.clone(),
            exchange,
            routing: Arc::new(|message| message.topic().as_str().to_owned()),
            mandatory: true,
            patience: PATIENCE,
        })
    }

    /// The same with the routing keys that `routing` makes, of at most 255 bytes.
    ///
    /// A topic exchange takes dots for separators: put what callers choose through
    /// [`word`](crate::publisher::word).
    #[must_use]
    pub fn with_routing(
        mut self,
        routing: impl Fn(&Message) -> String + Send + Sync + 'static,
    ) -> Self {
        self.routing = Arc::new(routing);
        self
    }

    /// The same for events that nobody may want: what no queue is bound for is dropped by the broker
    /// and counts as delivered.
    #[must_use]
    pub const fn allow_unroutable(mut self) -> Self {
        self.mandatory = false;
        self
    }

    /// The same with so long for a batch, connecting included; 8 seconds by default. Give the relay's
    /// policy a longer publish deadline.
    ///
    /// # Errors
    ///
    /// When it is not 10 ms to 1 h.
    pub fn with_patience(mut self, patience: Duration) -> Result<Self, PolicyError> {
        let range = Duration::from_millis(10)..=Duration::from_secs(60 * 60);
        policy::time("patience", patience, range, "10 ms to 1 h")?;
        self.patience = patience;
        Ok(self)
    }

    fn ready(&self, delivery: &Delivery, longest: usize) -> Result<Ready, PublishError> {
        let message = delivery.message();
        let routing_key = ShortString::try_new((self.routing)(message)).map_err(|_| {
            PublishError::refused_for_good("its routing key is longer than 255 bytes")
        })?;
        let properties = event::properties(delivery).map_err(PublishError::refused_for_good)?;
        if event::size(&properties) > longest {
            return Err(PublishError::refused_for_good(
                "its attributes and headers are longer than a frame of the broker's",
            ));
        }
        Ok(Ready {
            routing_key,
            properties,
            payload: message.payload().clone(),
            sequence: attributes::sequence(delivery),
        })
    }

    /// Sends messages on a channel that nobody else uses, and waits for what the broker says of each.
    async fn send(&self, live: &Live, batch: &[&Ready], end: Instant) -> Vec<Confirmed> {
        let channel = match timeout_at(end, live.take()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => {
                let ended = || Confirmed::Ended(error.clone());
                return batch.iter().map(|_| ended()).collect();
            }
            Err(_) => {
                live.leave();
                return batch.iter().map(|_| Confirmed::Silent).collect();
            }
        };
        // Polled in this order, so sent in this order; the confirms come in any.
        let sending = batch
            .iter()
            .map(|ready| self.send_one(&channel, ready, end));
        let mut returned = Returned::default();
        let mut answers = Vec::with_capacity(batch.len());
        for confirmation in join_all(sending).await {
            answers.push(match confirmation {
                Ok(Ok(confirmation)) => {
                    let taken = confirmation.is_ack();
                    if let Some(message) = confirmation.take_message() {
                        returned.add(&message);
                    }
                    if taken {
                        Confirmed::Taken
                    } else {
                        Confirmed::NotTaken
                    }
                }
                Ok(Err(error)) => Confirmed::Ended(error),
                Err(_) => Confirmed::Silent,
            });
        }
        let complete = answers.iter().all(Confirmed::is_an_answer);
        if !complete {
            returned.lacks_confirms();
        }
        // Only now: with the last confirm may have come what the first had returned.
        for (answer, ready) in answers.iter_mut().zip(batch) {
            if matches!(answer, Confirmed::Taken) {
                *answer = returned.what_of(&ready.sequence);
            }
        }
        if complete {
            live.give_back(channel);
        } else if answers.iter().any(|it| matches!(it, Confirmed::Silent)) && !live.is_blocked() {
            live.leave();
        }
        answers
    }

    async fn send_one(
        &self,
        channel: &Channel,
        ready: &Ready,
        end: Instant,
    ) -> Result<lapin::Result<Confirmation>, Elapsed> {
        let options = BasicPublishOptions {
            mandatory: self.mandatory,
            immediate: false,
        };
        let publishing = async {
            let confirm = channel.basic_publish(
                self.exchange.clone(),
                ready.routing_key.clone(),
                options,
                &ready.payload,
                ready.properties.clone(),
            );
            confirm.await?.await
        };
        timeout_at(end, publishing).await
    }

    /// Sends the messages. If the broker closed the channel over one of them, what has no answer is
    /// sent again, each alone, so that it is known which. Behind what says that the broker takes
    /// nothing, nothing more is tried.
    async fn send_all(
        &self,
        live: &Live,
        batch: &[&Ready],
        end: Instant,
    ) -> Vec<Result<(), PublishError>> {
        let answers = self.send(live, batch, end).await;
        let mut away = false;
        let mut judged = Vec::with_capacity(batch.len());
        for (answer, ready) in answers.into_iter().zip(batch) {
            if away && !answer.is_an_answer() {
                judged.push(Err(PublishError::skipped()));
                continue;
            }
            let mut alone = batch.len() == 1;
            let mut answer = answer;
            if answer.may_be_about_one() && !alone {
                alone = true;
                let again = self.send(live, &[*ready], end).await.pop();
                answer = again.unwrap_or(Confirmed::Silent);
            }
            let answer = answer.judge(alone, live.is_blocked());
            away |= answer.as_ref().is_err_and(PublishError::is_about_all);
            judged.push(answer);
        }
        judged
    }
}

#[async_trait::async_trait]
impl Publisher for RabbitPublisher {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let end = sleep(self.patience).deadline();
        let all = |error: PublishError| batch.iter().map(|_| Err(error.clone())).collect();
        let live = match timeout_at(end, self.connection.live()).await {
            Ok(Ok(live)) => live,
            Ok(Err(error)) => return all(error),
            Err(_) => return all(PublishError::down("no connection to the broker in time")),
        };
        if live.is_blocked() {
            return all(answer::blocked());
        }
        let longest = live.longest_frame().saturating_sub(AROUND);
        let ready: Vec<_> = batch.iter().map(|it| self.ready(it, longest)).collect();
        let sound: Vec<&Ready> = ready.iter().flatten().collect();
        if sound.is_empty() {
            return ready.into_iter().map(|it| it.map(drop)).collect();
        }
        let mut answers = self.send_all(&live, &sound, end).await.into_iter();
        let unanswered = || Err(PublishError::skipped());
        ready
            .into_iter()
            .map(|ready| match ready {
                Ok(_) => answers.next().unwrap_or_else(unanswered),
                Err(unfit) => Err(unfit),
            })
            .collect()
    }
}

impl fmt::Debug for RabbitPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitPublisher")
            .field("exchange", &self.exchange.as_str())
            .field("mandatory", &self.mandatory)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
