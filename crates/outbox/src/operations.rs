//! What an operator asks and does: counts, dead letters, keys that wait, pauses, pruning.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use buttress_store::{Key, Micros};

use crate::{Message, Outbox, OutboxError, Topic, machine::History, machine::lane_of};

/// The state of a topic, at one time, by the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Messages that are not delivered: all that were committed and are neither delivered nor dead.
    pub depth: u64,
    /// How long ago the oldest of them was appended. Zero when there is none.
    pub oldest_age: Duration,
    /// Keys that are set aside: their head waits for its next attempt or its time, or is dead.
    pub waiting_keys: u64,
    /// Of these, keys that wait until somebody decides.
    pub blocked_keys: u64,
    /// Dead letters.
    pub dead: u64,
    /// Lanes that some relay holds.
    pub held_lanes: u64,
    /// Somebody, or the destination, has paused the topic.
    pub paused: bool,
    /// PostgreSQL: transactions that have appended, to whichever topic, or are settling, and have
    /// not ended. [In one order of all](crate::TopicOrder::Global), messages wait for them.
    pub writers: u64,
    /// PostgreSQL: how long ago the oldest of these transactions began, as far as this user may
    /// see; zero when there is none.
    pub oldest_writer: Duration,
}

/// A dead letter, as it was read.
#[derive(Debug)]
pub(crate) struct DeadRow {
    pub(crate) id: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) created_at: i64,
    pub(crate) died_at: i64,
    pub(crate) history: History,
    pub(crate) attributes: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) error: String,
}

/// A message of the past or the present, as it was read.
#[derive(Debug)]
pub(crate) struct PastRow {
    pub(crate) id: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) created_at: i64,
    pub(crate) delivered_at: Option<i64>,
    pub(crate) attributes: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// A key that waits, as it was read.
#[derive(Debug)]
pub(crate) struct WaitingRow {
    pub(crate) key: Vec<u8>,
    pub(crate) head: i64,
    pub(crate) history: History,
    pub(crate) until: i64,
    pub(crate) error: String,
}

/// A message that was given up. `Debug` shows neither payload nor key.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// What [`Outbox::requeue`] and [`Outbox::skip`] take.
    pub sequence: i64,
    /// The message.
    pub message: Message,
    /// How many verdicts there were about it.
    pub failures: u32,
    /// How often whoever published it died over it, in a row.
    pub lapses: u32,
    /// What was said last.
    pub error: String,
    /// When it was appended.
    pub created_at: SystemTime,
    /// When it was given up.
    pub died_at: SystemTime,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("sequence", &self.sequence)
            .field("message", &self.message)
            .field("failures", &self.failures)
            .field("lapses", &self.lapses)
            .finish_non_exhaustive()
    }
}

/// A message that is there, delivered or not. `Debug` shows neither payload nor key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PastMessage {
    /// Its place: of one key, a later message has a higher one. It has gaps.
    pub sequence: i64,
    /// The message.
    pub message: Message,
    /// When it was appended.
    pub created_at: SystemTime,
    /// When it was delivered, if it was: then it is there because its topic
    /// [keeps](crate::Retention::Keep) it.
    pub delivered_at: Option<SystemTime>,
}

/// A key that is set aside.
#[derive(Clone)]
#[non_exhaustive]
pub struct WaitingKey {
    /// The key; of a message without one, random bytes that [`Outbox::unblock`] takes as well.
    pub key: Vec<u8>,
    /// The message that it waits for.
    pub sequence: i64,
    /// How many verdicts there were about that message.
    pub failures: u32,
    /// When it goes on; `None`: when somebody decides.
    pub until: Option<SystemTime>,
    /// What was said last.
    pub error: String,
}

impl fmt::Debug for WaitingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingKey")
            .field("sequence", &self.sequence)
            .field("failures", &self.failures)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// Operations. Each is one short commit, safe to drop: it was done or not.
impl Outbox {
    /// How the topic is doing. It counts all rows: ask it seldom of a topic with millions.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn counts(&self, topic: &Topic) -> Result<Counts, OutboxError> {
        Ok(self.store.store.counts(topic).await?)
    }

    /// Dead letters behind that sequence (0: from the first), oldest first, at most `most`.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn dead_letters(
        &self,
        topic: &Topic,
        after: i64,
        most: u32,
    ) -> Result<Vec<DeadLetter>, OutboxError> {
        let rows = self.store.store.dead(topic, after, most).await?;
        let letter = |row: DeadRow| {
            let topic = topic.clone();
            let message = Message::stored(topic, &row.key, &row.attributes, row.payload).ok()?;
            Some(DeadLetter {
                sequence: row.id,
                message,
                failures: row.history.failures,
                lapses: row.history.lapses,
                error: row.error,
                created_at: Micros::new(row.created_at).into(),
                died_at: Micros::new(row.died_at).into(),
            })
        };
        Ok(rows.into_iter().filter_map(letter).collect())
    }

    /// All messages that are there behind that sequence (0: from the first), in the order of their
    /// sequences, at most `most`: what was delivered and is [kept](crate::Retention::Keep), what is
    /// not delivered yet, and dead letters. For whoever builds anew what he made of them.
    ///
    /// A page is as of one moment, in which each message that was committed is there once. A
    /// message may be committed *after* a page on which it has its place: it is delivered after that
    /// too. So who takes deliveries from before the first page on, and takes each message once, has
    /// all of them; `examples/read-model` does.
    ///
    /// On MySQL each page looks at all that is kept; elsewhere there is an index.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn history(
        &self,
        topic: &Topic,
        after: i64,
        most: u32,
    ) -> Result<Vec<PastMessage>, OutboxError> {
        let rows = self.store.store.history(topic, after, most).await?;
        let past = |row: PastRow| {
            let topic = topic.clone();
            let message = Message::stored(topic, &row.key, &row.attributes, row.payload).ok()?;
            Some(PastMessage {
                sequence: row.id,
                message,
                created_at: Micros::new(row.created_at).into(),
                delivered_at: row.delivered_at.map(|at| Micros::new(at).into()),
            })
        };
        Ok(rows.into_iter().filter_map(past).collect())
    }

    /// Puts a dead letter back to its place in its key's line, to be tried anew; its key goes on.
    ///
    /// # Errors
    ///
    /// [`OutboxError::NoSuchDeadLetter`], [`OutboxError::Store`].
    pub async fn requeue(&self, topic: &Topic, sequence: i64) -> Result<(), OutboxError> {
        self.put_back(topic, sequence, None).await
    }

    /// The same with other headers: what `edit` makes of the message's.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Message`] for headers that cannot be, [`OutboxError::NoSuchDeadLetter`],
    /// [`OutboxError::Store`].
    pub async fn requeue_with_headers(
        &self,
        letter: &DeadLetter,
        edit: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), OutboxError> {
        let mut attributes = letter.message.attributes.clone();
        edit(&mut attributes.headers);
        Message::check_headers(&attributes.headers)?;
        let attributes = Some(attributes.to_bytes());
        self.put_back(letter.message.topic(), letter.sequence, attributes)
            .await
    }

    async fn put_back(
        &self,
        topic: &Topic,
        sequence: i64,
        attributes: Option<Vec<u8>>,
    ) -> Result<(), OutboxError> {
        let store = &self.store.store;
        self.dealt_with(store.requeue(topic, sequence, attributes).await?)
    }

    /// Forgets a dead letter for good; its key goes on without it.
    ///
    /// # Errors
    ///
    /// [`OutboxError::NoSuchDeadLetter`], [`OutboxError::Store`].
    pub async fn skip(&self, topic: &Topic, sequence: i64) -> Result<(), OutboxError> {
        self.dealt_with(self.store.store.skip(topic, sequence).await?)
    }

    fn dealt_with(&self, found: bool) -> Result<(), OutboxError> {
        if !found {
            return Err(OutboxError::NoSuchDeadLetter);
        }
        self.store.hint();
        Ok(())
    }

    /// Keys that are set aside, at most `most`: those that wait longest first.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn waiting_keys(
        &self,
        topic: &Topic,
        most: u32,
    ) -> Result<Vec<WaitingKey>, OutboxError> {
        let rows = self.store.store.waiting(topic, most).await?;
        let key = |row: WaitingRow| WaitingKey {
            key: row.key,
            sequence: row.head,
            failures: row.history.failures,
            until: (row.until != i64::MAX).then(|| Micros::new(row.until).into()),
            error: row.error,
        };
        Ok(rows.into_iter().map(key).collect())
    }

    /// Lets a key go on at once, whatever it waits for. A dead head stays among the dead letters,
    /// and what is behind it overtakes it. False: the key was not set aside.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn unblock(&self, topic: &Topic, key: impl AsRef<[u8]>) -> Result<bool, OutboxError> {
        let store = &self.store.store;
        let lane = lane_of(key.as_ref(), store.lanes());
        let found = store.unblock(topic, lane, key.as_ref()).await?;
        self.store.hint();
        Ok(found)
    }

    /// Pauses a topic on all relays, until it is resumed. They hear of it with their next
    /// heartbeat, at most a third of a lease later. The reason is cut at 1024 bytes.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn pause(&self, topic: &Topic, reason: &str) -> Result<(), OutboxError> {
        let reason = crate::PublishError::gone(reason);
        Ok(self.store.store.pause(topic, Some(reason.reason())).await?)
    }

    /// Resumes a topic, whoever paused it.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn resume(&self, topic: &Topic) -> Result<(), OutboxError> {
        self.store.store.pause(topic, None).await?;
        self.store.hint();
        Ok(())
    }

    /// Empties the pieces of [the ring](crate::OutboxStore::with_ring) in which all is settled.
    /// Returns how many. A relay that runs does so by itself; for one that makes single passes.
    /// It waits for nobody longer than 50 ms. Elsewhere than on PostgreSQL there are none.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn truncate(&self) -> Result<usize, OutboxError> {
        Ok(self.store.store.truncate().await?.pieces)
    }

    /// Removes what was kept after delivery for longer than `kept`, at most `most` messages.
    /// Returns how many. A relay does so by itself, by its topic's policy.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`].
    pub async fn prune(
        &self,
        topic: &Topic,
        kept: Duration,
        most: u32,
    ) -> Result<u64, OutboxError> {
        Ok(self.store.store.prune(topic, kept, most).await?)
    }
}

impl WaitingKey {
    /// The key as messages have it, if it can be one.
    #[must_use]
    pub fn as_key(&self) -> Option<Key> {
        Key::new(&self.key).ok()
    }
}
