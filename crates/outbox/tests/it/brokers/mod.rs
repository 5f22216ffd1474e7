//! Brokers between the relay and the inbox: real servers, which are killed, filled and told lies.

mod consuming;
mod each;
mod log;
mod lost;
mod rabbitmq;
mod rabbitmq_errors;
mod redis_errors;
mod redis_streams;
mod role;
mod trouble;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use buttress_outbox::{
    Delivery, Inbox, Message, MessageBuilder, Outbox, PublishErrorKind, Publisher, Relay,
    RelayPolicy, Topic, TopicPolicy,
    consumer::{Handled, Received, Terms},
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::eventually;
use sqlx::Postgres;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    base::Base,
    lab::{self, Destination, TOPIC},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: i64 = 8;
const SOON: Duration = Duration::from_millis(20);

/// Writers, two relays to a broker, a consumer behind it with an inbox.
///
/// A message may fail once and is then dead: whatever a broker's death costs, it is no attempt.
struct Story {
    base: Base<Postgres>,
    outbox: Outbox,
    tasks: JoinSet<()>,
    stop_writing: watch::Sender<bool>,
}

impl Story {
    /// Two writers and two relays, each with a publisher of its own.
    async fn begin<P: Publisher>(base: Base<Postgres>, publisher: impl Fn() -> P) -> Self {
        lab::furnish(&base.pool, KEYS).await;
        let outbox = Outbox::new(base.store.clone());
        let mut tasks = JoinSet::new();
        let (stop_writing, stopped) = watch::channel(false);
        for writer in 0..2 {
            let (pool, outbox) = (base.pool.clone(), outbox.clone());
            let stopped = stopped.clone();
            tasks.spawn(async move {
                for n in 0.. {
                    if *stopped.borrow() {
                        return;
                    }
                    let key = (n * 3 + writer) % KEYS;
                    lab::change(&pool, &outbox, key, async { true })
                        .await
                        .unwrap();
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            });
        }
        for _ in 0..2 {
            let soon = Backoff::constant(SOON);
            let topic = TopicPolicy::new()
                .with_attempts(1)
                .with_backoff(soon.clone())
                .with_outage_backoff(soon);
            let relay = Relay::builder(&outbox)
                .policy(RelayPolicy::new().with_poll(SOON).with_batch(50))
                .topic_with(TOPIC, topic, publisher())
                .build()
                .unwrap();
            tasks.spawn(async move { relay.run_until(std::future::pending()).await });
        }
        Self {
            base,
            outbox,
            tasks,
            stop_writing,
        }
    }

    /// What takes a message once, in this database.
    fn handler(
        &self,
    ) -> impl Fn(Received) -> futures_util::future::BoxFuture<'static, Handled> + Send + Sync + 'static
    {
        let destination = Arc::new(Destination {
            pool: self.base.pool.clone(),
            inbox: Inbox::new(self.base.store.clone(), "consumer").unwrap(),
        });
        move |received| {
            let destination = destination.clone();
            Box::pin(async move {
                let id = received.inbox_id();
                let hearing = destination.hear(received.data(), &id);
                match hearing.await {
                    Ok(()) => Handled::Done,
                    Err(_) => Handled::Again,
                }
            })
        }
    }

    /// How many changes have been committed until now.
    async fn committed(&self) -> i64 {
        let sum = sqlx::query_scalar("SELECT sum(version)::bigint FROM business");
        sum.fetch_one(&self.base.pool).await.unwrap()
    }

    async fn more_are_committed(&self, more: i64) {
        let begin = self.committed().await;
        eventually("more is committed", PATIENCE, async || {
            (self.committed().await >= begin + more).then_some(())
        })
        .await;
    }

    /// What has had its effect until now.
    async fn effects(&self) -> i64 {
        let sum = sqlx::query_scalar("SELECT sum(times)::bigint FROM effects");
        sum.fetch_one(&self.base.pool).await.unwrap()
    }

    async fn more_has_its_effect(&self, more: i64) {
        let begin = self.effects().await;
        eventually("more has its effect", PATIENCE, async || {
            (self.effects().await >= begin + more).then_some(())
        })
        .await;
    }

    /// Stops the writers, waits until all has had its effect, and checks that it was once and in
    /// order, and that no message failed.
    async fn end(mut self) -> lab::Seen {
        let _ = self.stop_writing.send(true);
        for _ in 0..2 {
            // The relays do not end.
            self.tasks.join_next().await.unwrap().unwrap();
        }
        let committed = self.committed().await;
        eventually("all has its effect", PATIENCE, async || {
            (self.effects().await >= committed).then_some(())
        })
        .await;
        let topic = Topic::new(TOPIC).unwrap();
        eventually("all is settled", PATIENCE, async || {
            let counts = self.outbox.counts(&topic).await.unwrap();
            assert_eq!(counts.dead, 0, "no attempt is charged");
            (counts.depth == 0).then_some(())
        })
        .await;
        self.tasks.shutdown().await;
        let seen = lab::check(&self.base.pool, true).await.unwrap();
        println!("{seen:?}");
        seen
    }
}

/// Terms by which what fails comes again soon.
fn soon() -> Terms {
    Terms::new().with_backoff(Backoff::constant(SOON))
}

fn delivery(sequence: i64, builder: MessageBuilder) -> Delivery {
    let message = builder.build().unwrap();
    Delivery::new(message, sequence, 1, SystemTime::UNIX_EPOCH)
}

fn message(event_type: &str) -> MessageBuilder {
    Message::builder(TOPIC, "/brokers", event_type)
}

/// Each answer's kind, `None` for what was delivered.
async fn kinds(publisher: &impl Publisher, batch: &[Delivery]) -> Vec<Option<PublishErrorKind>> {
    let answers = publisher.publish(batch).await;
    assert_eq!(answers.len(), batch.len());
    let kind = |answer: Result<(), buttress_outbox::PublishError>| match answer {
        Ok(()) => None,
        Err(error) => Some(error.kind()),
    };
    answers.into_iter().map(kind).collect()
}
