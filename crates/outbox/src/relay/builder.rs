//! A relay in the making.

use std::{fmt, sync::Arc};

use buttress_core::{Clock, Observer, Observers};
use buttress_retry_backoff::Dice;
use buttress_store::Dialect;

use super::{Inner, Relay, Served};
use crate::{
    Event, MessageError, OutboxError, OutboxStore, PolicyError, Publisher, RelayPolicy, Topic,
    TopicPolicy,
};

/// A relay in the making; made by [`Relay::builder`].
#[must_use = "build() makes the relay"]
pub struct RelayBuilder {
    store: OutboxStore,
    policy: RelayPolicy,
    topics: Vec<Result<Served, MessageError>>,
    observers: Observers<Event>,
    dice: Dice,
}

impl RelayBuilder {
    pub(super) fn new(store: OutboxStore) -> Self {
        Self {
            store,
            policy: RelayPolicy::default(),
            topics: Vec::new(),
            observers: Observers::none(),
            dice: Dice::random(),
        }
    }

    /// Another policy than the default.
    pub fn policy(mut self, policy: RelayPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Delivers this topic's messages to that publisher, by the default policy.
    pub fn topic(self, topic: impl AsRef<str>, publisher: impl Publisher) -> Self {
        self.topic_with(topic, TopicPolicy::default(), publisher)
    }

    /// The same by a policy of its own.
    pub fn topic_with(
        mut self,
        topic: impl AsRef<str>,
        policy: TopicPolicy,
        publisher: impl Publisher,
    ) -> Self {
        let publisher = Arc::new(publisher);
        let served = Topic::new(topic).map(|topic| Served {
            topic,
            policy,
            publisher,
        });
        self.topics.push(served);
        self
    }

    /// An observer of what happens, beside those that were added before.
    pub fn observe(mut self, observer: impl Observer<Event> + 'static) -> Self {
        self.observers = self.observers.with(observer);
        self
    }

    /// Random numbers of your choice, for the jitter: for tests.
    pub fn dice(mut self, dice: Dice) -> Self {
        self.dice = dice;
        self
    }

    /// The relay. It does nothing until it is run.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Policy`], naming the field and its range; [`OutboxError::Message`] for a
    /// topic that cannot be one.
    pub fn build(self) -> Result<Relay, OutboxError> {
        self.policy.check()?;
        let topics: Result<Vec<Served>, MessageError> = self.topics.into_iter().collect();
        let topics = topics?;
        for (place, served) in topics.iter().enumerate() {
            served.policy.check()?;
            if served.policy.is_one_line() && self.store.dialect() != Dialect::Postgres {
                return Err(PolicyError::new("order", "by key, unless on PostgreSQL").into());
            }
            if served.policy.is_one_line() && self.store.has_ring(served.topic.as_str()) {
                return Err(PolicyError::new("order", "by key, in a ring").into());
            }
            if topics[..place].iter().any(|it| it.topic == served.topic) {
                return Err(PolicyError::new("topic", "one publisher a topic").into());
            }
        }
        if topics.is_empty() {
            return Err(PolicyError::new("topic", "at least one").into());
        }
        Ok(Relay {
            inner: Arc::new(Inner {
                store: self.store,
                policy: self.policy,
                topics,
                observers: self.observers,
                clock: Clock::tokio(),
                dice: self.dice,
            }),
        })
    }
}

impl fmt::Debug for RelayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayBuilder")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
