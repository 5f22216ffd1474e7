//! The handle that business code holds: it appends messages in the caller's own transaction.

use std::{collections::BTreeSet, sync::Arc};

use buttress_store::{AfterCommit, Dialect, SqlConnection};

use crate::{
    Message, OutboxError, OutboxStore, PolicyError, Topic, machine::lane_of, store::NewRow,
};

/// Appends messages in *your* transaction: they are there when it commits, and were never there
/// when it does not.
///
/// Cheap to clone. What an operator does is here as well: counts, dead letters, pauses.
///
/// # Order
///
/// Messages of one key are delivered in the order of their transactions if these took turns: if
/// each had a lock on what the key stands for (the order's row: by an UPDATE or SELECT … FOR
/// UPDATE) *before* it appended. Of two that ran at once without one, either may be first.
#[derive(Clone, Debug)]
pub struct Outbox {
    pub(crate) store: OutboxStore,
}

impl OutboxStore {
    /// PostgreSQL: messages of these topics go to a *ring* of four pieces of a table, and are never
    /// deleted one by one. A piece in which all is settled is truncated as a whole: there is no dead
    /// tuple a message and nothing for vacuum to do, and the space comes back though an old
    /// snapshot is held open.
    ///
    /// Choose it for a topic with many messages a second. It costs latency: a message is delivered
    /// when no transaction can commit one before it any more, so each that has appended, to
    /// whichever topic of these tables, and does not end holds back what was appended after it.
    ///
    /// Say it where messages are appended and where relays run. Relays come first: not before one
    /// that says it has made all lanes of the topic lanes of the ring does an append go there, and
    /// relays of a version that knows no ring must be gone by then. In a ring or not, and whoever
    /// says what, messages of a key are delivered in the order of their places. The role of the
    /// relays needs TRUNCATE on the pieces, that of writers USAGE on the sequence.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Policy`] on other databases; [`OutboxError::Message`] for a topic that cannot
    /// be one.
    pub fn with_ring(
        mut self,
        topics: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, OutboxError> {
        if self.dialect() != Dialect::Postgres {
            return Err(PolicyError::new("ring", "none, unless on PostgreSQL").into());
        }
        let mut rings = BTreeSet::clone(&self.rings);
        for topic in topics {
            rings.insert(Topic::new(topic)?.as_str().to_owned());
        }
        self.rings = Arc::new(rings);
        Ok(self)
    }

    pub(crate) fn has_ring(&self, topic: &str) -> bool {
        self.rings.contains(topic)
    }
}

impl Outbox {
    /// An outbox on these tables.
    #[must_use]
    pub const fn new(store: OutboxStore) -> Self {
        Self { store }
    }

    /// The tables it is on.
    #[must_use]
    pub const fn store(&self) -> &OutboxStore {
        &self.store
    }

    /// Appends a message in the transaction that `connection` is in. Fire what it returns after
    /// the commit, and relays of this process (with [`OutboxStore`]'s clone) look at once, and those
    /// of others [`with_notify`](OutboxStore::with_notify); forgetting it costs a poll.
    ///
    /// It is one INSERT and takes no lock but its own row's. It has no deadline of ours. Dropping
    /// the future leaves the connection in the middle of a statement: roll back.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`]: on PostgreSQL the transaction has failed; roll back on all.
    pub async fn append_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        message: &Message,
    ) -> Result<AfterCommit, OutboxError> {
        self.append_all_in(connection, std::slice::from_ref(message))
            .await
    }

    /// The same for many messages, in this order.
    ///
    /// # Errors
    ///
    /// As [`append_in`](Self::append_in).
    pub async fn append_all_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        messages: &[Message],
    ) -> Result<AfterCommit, OutboxError> {
        if messages.is_empty() {
            return Ok(AfterCommit::nothing());
        }
        let store = &self.store.store;
        let lanes = store.lanes();
        let rows: Vec<NewRow<'_>> = messages.iter().map(|it| self.row(it, lanes)).collect();
        store.append(connection.lend(), &rows).await?;
        let store = self.store.clone();
        Ok(AfterCommit::new(move || store.hint()))
    }

    fn row<'m>(&self, message: &'m Message, lanes: i16) -> NewRow<'m> {
        NewRow {
            ring: self.store.has_ring(message.topic.as_str()),
            ..row(message, lanes)
        }
    }

    /// Has relays of this process look at once, and those of others
    /// [`with_notify`](OutboxStore::with_notify): for who has committed a message by a statement of
    /// his own.
    pub fn look(&self) {
        self.store.hint();
    }
}

pub(crate) fn row(message: &Message, lanes: i16) -> NewRow<'_> {
    let key = match &message.key {
        Some(key) => key.as_bytes().to_vec(),
        // A key of its own: it waits for no other, and lies in any lane.
        None => rand::random::<[u8; 16]>().to_vec(),
    };
    NewRow {
        topic: message.topic.as_str(),
        lane: lane_of(&key, lanes),
        key,
        attributes: message.attributes.to_bytes(),
        payload: &message.payload,
        due: message.due,
        ring: false,
    }
}
