//! Stores that keep phases wrongly, which the tests must find.

use std::time::Duration;

use async_trait::async_trait;
use buttress_idempotency::{
    ScopedKey,
    store::{Answer, Checkpoint, InTransaction, Keeps, PostgresStore, Request, Store, Unfinished},
};
use buttress_store::{Fence, Lent, StoreError};
use bytes::Bytes;

/// The planted bug: a phase in the user's transaction is committed by itself.
#[derive(Debug)]
pub(crate) struct Loose<S>(pub(crate) S);

#[async_trait]
impl<S: Store> Store for Loose<S> {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.0.claim(request).await
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.extend(key, fence, lease, retention).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.complete(key, fence, outcome, retention).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.0.release(key, fence).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.0.doubt(key, fence).await
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.0.reap(limit).await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.0.unfinished(idle, limit).await
    }

    fn keeps(&self) -> Keeps {
        self.0.keeps()
    }

    fn in_transaction(&self) -> InTransaction {
        self.0.in_transaction()
    }

    async fn checkpoint_in(
        &self,
        _: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        self.0.checkpoint(key, fence, checkpoint).await
    }

    async fn complete_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0
            .complete_in(connection, key, fence, outcome, retention)
            .await
    }
}

/// The planted bug: whoever passes a phase in a transaction is taken for the owner.
#[derive(Debug)]
pub(super) struct Unfenced(pub(super) PostgresStore);

#[async_trait]
impl Store for Unfenced {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.0.claim(request).await
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.extend(key, fence, lease, retention).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.complete(key, fence, outcome, retention).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.0.release(key, fence).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.0.doubt(key, fence).await
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.0.reap(limit).await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.0.unfinished(idle, limit).await
    }

    fn keeps(&self) -> Keeps {
        self.0.keeps()
    }

    async fn checkpoint_in(
        &self,
        connection: Lent<'_>,
        key: &ScopedKey,
        _: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE buttress_idempotency SET progress = $1 WHERE id = $2";
        let update = sqlx::query(sql).bind(&checkpoint.after[..]);
        let done = update
            .bind(key.as_bytes())
            .execute(connection.postgres()?)
            .await;
        Ok(done.map_err(StoreError::in_transaction)?.rows_affected() > 0)
    }
}
