//! A planted bug: a store without fences.

use std::time::Duration;

use async_trait::async_trait;
use buttress_saga::{
    SagaId,
    store::{
        Ask, Census, Claimed, Filter, Hand, MemoryStore, NewSaga, NewSignal, Record, Sent, Signals,
        Started, Store, Write,
    },
};
use buttress_store::{Fence, Lent, StoreError};

/// A store that forgets to look at the claim.
pub(super) struct Unfenced(pub(super) MemoryStore);

#[async_trait]
impl Store for Unfenced {
    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError> {
        let Some(record) = self.0.read(id).await? else {
            return Ok(false);
        };
        if record.entries != write.expected {
            return Ok(false);
        }
        let _ = by;
        self.0.append(id, Hand::Operator, write).await
    }

    async fn extend(&self, _: SagaId, _: Fence, _: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError> {
        self.0.start(new).await
    }

    async fn start_in(&self, connection: Lent<'_>, new: &NewSaga) -> Result<Started, StoreError> {
        self.0.start_in(connection, new).await
    }

    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError> {
        self.0.claim(ask).await
    }

    async fn append_in(
        &self,
        connection: Lent<'_>,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        self.0.append_in(connection, id, by, write).await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<Sent, StoreError> {
        self.0.signal(signal).await
    }

    async fn signal_in(
        &self,
        connection: Lent<'_>,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        self.0.signal_in(connection, signal).await
    }

    async fn signals(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.0.signals(id, name).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        self.0.read(id).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        self.0.list(filter).await
    }

    async fn census(&self) -> Result<Vec<Census>, StoreError> {
        self.0.census().await
    }

    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.0.prune(age, limit).await
    }
}
