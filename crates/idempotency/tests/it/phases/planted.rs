//! A store that keeps phases wrongly, which the tests must find.

use std::time::Duration;

use async_trait::async_trait;
use buttress_idempotency::{
    ScopedKey,
    store::{Answer, Checkpoint, InTransaction, Keeps, PostgresStore, Request, Store, Unfinished},
};
use buttress_store::{Fence, Lent, StoreError};
use bytes::Bytes;

/// What is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bug {
    /// A phase in the user's transaction is committed by itself.
    Loose,
    /// Whoever passes a phase in a transaction is taken for the owner.
    Unfenced,
}

#[derive(Debug)]
pub(crate) struct Buggy(pub(crate) Bug, pub(crate) PostgresStore);

#[async_trait]
impl Store for Buggy {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.1.claim(request).await
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.1.extend(key, fence, lease, retention).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.1.complete(key, fence, outcome, retention).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.1.release(key, fence).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.1.doubt(key, fence).await
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.1.reap(limit).await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.1.unfinished(idle, limit).await
    }

    fn keeps(&self) -> Keeps {
        self.1.keeps()
    }

    fn in_transaction(&self) -> InTransaction {
        self.1.in_transaction()
    }

    async fn checkpoint_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        match self.0 {
            Bug::Loose => self.1.checkpoint(key, fence, checkpoint).await,
            Bug::Unfenced => {
                let sql = "UPDATE buttress_idempotency SET progress = $1 WHERE id = $2";
                let update = sqlx::query(sql).bind(&checkpoint.after[..]);
                let update = update.bind(key.as_bytes());
                let done = update.execute(connection.postgres()?).await;
                Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
            }
        }
    }

    async fn complete_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let complete = self
            .1
            .complete_in(connection, key, fence, outcome, retention);
        complete.await
    }
}
