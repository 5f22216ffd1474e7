//! A consumer of messages that come more than once.

use buttress_store::{SqlConnection, StoreError};

use crate::{EventKind, Idempotency, IdempotencyError, Key, Scope, store::InTransaction};

/// A consumer of messages: what it does for a message is done once, however often it is delivered.
///
/// Its name is in the key, so that two consumers of one message do not take it from each other.
/// Messages are to be kept for longer than they can be delivered again: that is the policy's
/// retention.
#[derive(Clone, Debug)]
pub struct Consumer {
    idempotency: Idempotency,
    scope: Scope,
}

impl Idempotency {
    /// The consumer of this name. Choose it once: under another name everything is new.
    #[must_use]
    pub fn consumer(&self, name: &str) -> Consumer {
        Consumer {
            idempotency: self.clone(),
            scope: Scope::of(["consumer", name]),
        }
    }
}

impl Consumer {
    /// Whether this is the first time that the message is taken. Written in your transaction: with
    /// it, what you do for the message is committed, or neither is. Acknowledge the message after
    /// the commit, and also when this says `false`.
    ///
    /// It waits for another transaction that is just taking the same message, and is then told how
    /// that ended. Call it first.
    ///
    /// Dropping the future leaves the connection in the middle of a statement: roll back.
    ///
    /// # Errors
    ///
    /// [`IdempotencyError`]: roll back, and have the message delivered again. At REPEATABLE READ
    /// and above `PostgreSQL` says of a message that another took meanwhile that it could not be
    /// serialized.
    pub async fn first_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        message: &Key,
    ) -> Result<bool, IdempotencyError> {
        let inner = self.idempotency.inner();
        if inner.store.in_transaction() == InTransaction::Nothing {
            return Err(IdempotencyError::NoTransactions);
        }
        let key = self.scope.key(message);
        let retention = inner.policy.retention();
        let taken = inner.store.take_in(connection.lend(), &key, retention);
        let first = taken
            .await
            .inspect_err(|_: &StoreError| inner.failed("take_in"))?;
        inner.tell(if first {
            EventKind::Claimed { epoch: 1 }
        } else {
            EventKind::Replayed
        });
        Ok(first)
    }
}
