//! The other side: a message is taken once, in the transaction of whoever handles it.

use std::{fmt, sync::Arc, time::Duration};

use buttress_store::{Key, SqlConnection};

use crate::{MessageError, OutboxError, OutboxStore, policy};

/// How often an inbox forgets by itself, and how much at once.
const PRUNE: Duration = Duration::from_secs(60);
const PRUNED: u64 = 1000;

/// Takes each message once: its id is written in *your* transaction, with what the message makes
/// you do. Who comes second learns it before he does anything.
///
/// The consumer's name is part of the key: two consumers of one database each take each message.
///
/// It must remember longer than a message can come again: the relay's longest wait, a broker's
/// redelivery, a dead letter requeued by hand. Nothing is forgotten by itself: spawn
/// [`Inbox::prune_until`], or call [`Inbox::prune`]; a week is [`Inbox::KEPT`].
#[derive(Clone)]
pub struct Inbox {
    store: OutboxStore,
    consumer: Arc<Key>,
}

/// Whether a message was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a message that was taken before must not be handled again"]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Taken {
    /// It is yours: handle it, in this transaction.
    First,
    /// It was handled before: acknowledge it and do nothing.
    Before,
}

impl Inbox {
    /// For how long to remember, unless something says otherwise: a week.
    pub const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// The inbox of one consumer, by a name of 1 to 255 bytes that stays the same.
    ///
    /// # Errors
    ///
    /// [`MessageError::Field`], when the name cannot be one.
    pub fn new(store: OutboxStore, consumer: impl AsRef<[u8]>) -> Result<Self, MessageError> {
        let consumer = Arc::new(key("consumer", consumer.as_ref())?);
        Ok(Self { store, consumer })
    }

    /// Takes the message of that id, in the transaction that `connection` is in, before anything
    /// else is done in it.
    ///
    /// If another transaction has just taken it, this one waits for its end: a commit makes it
    /// [`Taken::Before`], a rollback [`Taken::First`]. The id is 1 to 255 bytes; where several
    /// sources choose ids of their own, put the source before it.
    ///
    /// It has no deadline of ours. Dropping the future leaves the connection in the middle of a
    /// statement: roll back.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`]: roll back and let it come again. At REPEATABLE READ and above on
    /// PostgreSQL, and after a deadlock on MySQL, it is of the kind contended.
    pub async fn take_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        id: impl AsRef<[u8]> + Send,
    ) -> Result<Taken, OutboxError> {
        let id = key("id", id.as_ref())?;
        let store = &self.store.store;
        let first = store.take(connection.lend(), &self.consumer, &id).await?;
        Ok(if first { Taken::First } else { Taken::Before })
    }

    /// Whether the message of that id was taken by a transaction that has committed. It spares
    /// work; it decides nothing: only [`take_in`](Self::take_in) does, for another may take it in
    /// the next moment.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Message`] for an id that cannot be one, [`OutboxError::Store`].
    pub async fn was_taken(&self, id: impl AsRef<[u8]> + Send) -> Result<bool, OutboxError> {
        let id = key("id", id.as_ref())?;
        let store = &self.store.store;
        Ok(store.was_taken(&self.consumer, &id).await?)
    }

    /// Forgets what this consumer took longer than `kept` ago: at once, and then once a minute, until
    /// `shutdown` is ready. Spawn it beside whoever takes messages; several at once do no harm.
    ///
    /// It deletes a thousand at a time, each time a commit by itself. While the store is away it
    /// waits for the next minute. Dropping the future ends it; what was forgotten is forgotten.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Policy`], at once, for less than a minute or more than ten years.
    pub async fn prune_until(
        &self,
        kept: Duration,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), OutboxError> {
        check_kept(kept)?;
        let pruning = async {
            loop {
                while let Ok(PRUNED) = self.prune_some(kept).await {}
                tokio::time::sleep(PRUNE).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown => Ok(()),
            () = pruning => Ok(()),
        }
    }

    async fn prune_some(&self, kept: Duration) -> Result<u64, OutboxError> {
        let most = u32::try_from(PRUNED).unwrap_or(u32::MAX);
        self.prune(kept, most).await
    }

    /// Forgets what this consumer took longer than `kept` ago, at most `most`. Returns how many.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Policy`] for less than a minute or more than ten years, [`OutboxError::Store`].
    pub async fn prune(&self, kept: Duration, most: u32) -> Result<u64, OutboxError> {
        check_kept(kept)?;
        let store = &self.store.store;
        Ok(store.prune_inbox(&self.consumer, kept, most).await?)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

fn check_kept(kept: Duration) -> Result<(), OutboxError> {
    let years = Duration::from_secs(3650 * 24 * 60 * 60);
    let range = Duration::from_secs(60)..=years;
    Ok(policy::time("kept", kept, range, "1 min to 10 years")?)
}

fn key(field: &'static str, bytes: &[u8]) -> Result<Key, MessageError> {
    Key::new(bytes).map_err(|_| MessageError::Field {
        field,
        rule: "1 to 255 bytes",
    })
}
