//! A store at one of whose operations the process dies.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use buttress_store::{Fence, Lent, StoreError};
use tokio::sync::Notify;

use crate::{
    SagaId,
    store::{
        Ask, Census, Claimed, Filter, Hand, NewSaga, NewSignal, Record, Sent, Signals, Started,
        Store, Write,
    },
};

/// A store at one of whose operations the process dies.
pub(super) struct Point {
    inner: Arc<dyn Store>,
    /// At which operation, from 0, and whether before it is done.
    dies: Option<(u64, bool)>,
    operations: AtomicU64,
    pub(super) died: Notify,
}

impl Point {
    pub(super) fn new(inner: Arc<dyn Store>, dies: Option<(u64, bool)>) -> Self {
        Self {
            inner,
            dies,
            operations: AtomicU64::new(0),
            died: Notify::new(),
        }
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    async fn reach<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        match self.dies {
            Some((at, before)) if at == number => {
                if !before {
                    operation.await?;
                }
                self.died.notify_one();
                pending().await
            }
            _ => operation.await,
        }
    }
}

#[async_trait]
impl Store for Point {
    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError> {
        self.inner.start(new).await
    }

    async fn start_in(&self, connection: Lent<'_>, new: &NewSaga) -> Result<Started, StoreError> {
        self.inner.start_in(connection, new).await
    }

    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError> {
        self.reach(self.inner.claim(ask)).await
    }

    async fn extend(&self, id: SagaId, fence: Fence, length: Duration) -> Result<bool, StoreError> {
        self.inner.extend(id, fence, length).await
    }

    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError> {
        self.reach(self.inner.append(id, by, write)).await
    }

    async fn append_in(
        &self,
        connection: Lent<'_>,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        self.inner.append_in(connection, id, by, write).await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<Sent, StoreError> {
        self.reach(self.inner.signal(signal)).await
    }

    async fn signal_in(
        &self,
        connection: Lent<'_>,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        self.inner.signal_in(connection, signal).await
    }

    async fn signals(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.reach(self.inner.signals(id, name)).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        self.inner.read(id).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        self.inner.list(filter).await
    }

    async fn census(&self) -> Result<Vec<Census>, StoreError> {
        self.inner.census().await
    }

    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.inner.prune(age, limit).await
    }
}
