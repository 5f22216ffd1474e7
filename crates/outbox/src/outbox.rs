//! The handle that business code holds: it appends messages in the caller's own transaction.

use buttress_store::{AfterCommit, SqlConnection};

use crate::{Message, OutboxError, OutboxStore, machine::lane_of, store::NewRow};

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
