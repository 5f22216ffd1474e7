//! The suite that every store passes: public, so that a database of yours can be judged by it.

mod claims;
mod fences;
mod handles;
mod ring;
mod taking;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use buttress_store::{Deadline, Guarded, SqlDatabase};
use sqlx::Pool;

use crate::{
    Delivery, Message, Outbox, OutboxStore, PublishError, PublishOrder, Publisher, Relay,
    TopicPolicy,
};

/// Runs the whole suite on the tables of `store`, which must be migrated and are on the database
/// of `pool`. It uses topics and consumers of its own, whose names begin with `conformance`; those
/// that `store` has [in a ring](OutboxStore::with_ring) are tried there.
///
/// # Panics
///
/// When the store does not keep what it must, with what it is about.
pub async fn conformance<DB: SqlDatabase>(pool: &Pool<DB>, store: &OutboxStore) {
    let suite = Suite {
        pool: pool.clone(),
        outbox: Outbox::new(store.clone()),
    };
    ring::all(&suite).await;
    handles::all(&suite).await;
    fences::all(&suite).await;
    claims::all(&suite).await;
    taking::all(&suite).await;
}

struct Suite<DB: SqlDatabase> {
    pool: Pool<DB>,
    outbox: Outbox,
}

impl<DB: SqlDatabase> Suite<DB> {
    async fn begin(&self) -> Guarded<DB> {
        let deadline = Deadline::after(Deadline::SQL);
        let begun = Guarded::begin(&self.pool, deadline).await;
        begun.expect("a transaction begins")
    }

    /// One commit a message.
    async fn append(&self, messages: &[Message]) {
        for message in messages {
            self.append_at_once(std::slice::from_ref(message)).await;
        }
    }

    async fn append_at_once(&self, messages: &[Message]) {
        let mut transaction = self.begin().await;
        let appended = self.outbox.append_all_in(&mut *transaction, messages);
        appended.await.expect("messages are appended").fire();
        transaction.commit().await.expect("they are committed");
    }

    fn relay(&self, topic: &str, policy: TopicPolicy, scribe: &Scribe) -> Relay {
        let builder = Relay::builder(&self.outbox);
        let builder = builder.topic_with(topic, policy, scribe.clone());
        builder.build().expect("the policy can work")
    }
}

fn message(topic: &str, key: impl AsRef<[u8]>, subject: &str) -> Message {
    let message = Message::builder(topic, "/conformance", "note").key(key);
    let message = message.subject(subject).payload(subject.to_owned());
    message.build().expect("a message")
}

/// A publisher that writes down what it was given, and says what it is told to say.
#[derive(Clone, Default)]
struct Scribe {
    heard: Arc<Mutex<Vec<Delivery>>>,
    say: Arc<Mutex<Option<Say>>>,
    whole_runs: bool,
}

type Say = Box<dyn FnMut(&Delivery) -> Result<(), PublishError> + Send>;

impl Scribe {
    fn saying(say: impl FnMut(&Delivery) -> Result<(), PublishError> + Send + 'static) -> Self {
        let scribe = Self::default();
        scribe.say(say);
        scribe
    }

    fn say(&self, say: impl FnMut(&Delivery) -> Result<(), PublishError> + Send + 'static) {
        *lock(&self.say) = Some(Box::new(say));
    }

    fn say_yes(&self) {
        *lock(&self.say) = None;
    }

    /// The subjects of what was delivered, in order, and forgets them.
    fn heard(&self) -> Vec<String> {
        let heard = std::mem::take(&mut *lock(&self.heard));
        let subject = |it: &Delivery| it.message().subject().unwrap_or_default().to_owned();
        heard.iter().map(subject).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Publisher for Scribe {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let mut failed = Vec::new();
        let mut answers = Vec::new();
        for delivery in batch {
            let key = delivery.message().key();
            if key.is_some() && failed.contains(&key) {
                answers.push(Err(PublishError::skipped()));
                continue;
            }
            let answer = lock(&self.say).as_mut().map_or(Ok(()), |say| say(delivery));
            match &answer {
                Ok(()) => lock(&self.heard).push(delivery.clone()),
                Err(_) => failed.push(key),
            }
            answers.push(answer);
        }
        answers
    }

    fn order(&self) -> PublishOrder {
        if self.whole_runs {
            PublishOrder::WholeRuns
        } else {
            PublishOrder::OnePerKey
        }
    }
}
