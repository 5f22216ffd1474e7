//! A store whose operations fail, vanish, and come late, as chance or a plan says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use buttress_saga::{
    SagaId,
    store::{
        Append, Ask, Census, Claimed, Filter, Hand, NewSaga, NewSignal, Record, Sent, Signals,
        Started, Store, Write,
    },
};
use buttress_store::{Fence, Lent, Phase, StoreError, StoreErrorKind};

/// What becomes of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    /// It is not done, and says so.
    Fails,
    /// It is done, and says that nobody knows.
    AnswerLost,
    /// The first write is not done, and says that it is: the pool's connection was left in
    /// somebody's transaction. All else goes well.
    FirstForgotten,
    /// It is done this much later.
    LateBefore(Duration),
    /// It is done, and says so this much later.
    LateAfter(Duration),
}

/// A store that suffers.
pub(crate) struct Shaky<F> {
    pub(crate) inner: Arc<dyn Store>,
    /// Told the number of the operation.
    pub(crate) fate: F,
    pub(crate) operations: AtomicU64,
    pub(crate) appends: AtomicU64,
    /// How many sagas' writes came together, and in how many commits.
    pub(crate) gathered: AtomicU64,
    pub(crate) batches: AtomicU64,
    /// As the store that suffers says, unless a test knows better.
    pub(crate) at_once: usize,
    /// A planted bug: all of a batch are told that they were written.
    pub(crate) boasts: bool,
    /// Another: nobody is woken.
    pub(crate) deaf: bool,
}

impl<F: Fn(u64) -> Fate + Send + Sync + 'static> Shaky<F> {
    pub(crate) fn new(inner: Arc<dyn Store>, fate: F) -> Self {
        Self {
            at_once: inner.batches_at_once(),
            inner,
            fate,
            operations: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            gathered: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            boasts: false,
            deaf: false,
        }
    }

    /// Many sagas' writes in one commit, so many commits at once.
    pub(crate) const fn gathering(mut self, at_once: usize) -> Self {
        self.at_once = at_once;
        self
    }

    async fn suffer<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        match (self.fate)(number) {
            Fate::Well | Fate::FirstForgotten => operation.await,
            Fate::Fails => Err(StoreError::new(StoreErrorKind::Unreachable, Phase::Connect)),
            Fate::AnswerLost => {
                operation.await?;
                Err(StoreError::new(StoreErrorKind::Lost, Phase::Commit))
            }
            Fate::LateBefore(late) => {
                tokio::time::sleep(late).await;
                operation.await
            }
            Fate::LateAfter(late) => {
                let result = operation.await;
                tokio::time::sleep(late).await;
                result
            }
        }
    }
}

#[async_trait]
impl<F: Fn(u64) -> Fate + Send + Sync + 'static> Store for Shaky<F> {
    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError> {
        self.suffer(self.inner.start(new)).await
    }

    async fn start_in(&self, connection: Lent<'_>, new: &NewSaga) -> Result<Started, StoreError> {
        self.inner.start_in(connection, new).await
    }

    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError> {
        self.suffer(self.inner.claim(ask)).await
    }

    async fn extend(&self, id: SagaId, fence: Fence, length: Duration) -> Result<bool, StoreError> {
        self.suffer(self.inner.extend(id, fence, length)).await
    }

    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError> {
        let before = self.appends.fetch_add(1, Ordering::Relaxed);
        if before == 0 && (self.fate)(0) == Fate::FirstForgotten {
            return Ok(true);
        }
        if self.deaf && write.wakes.is_some() {
            let mut write = write.clone();
            write.wakes = None;
            return self.suffer(self.inner.append(id, by, &write)).await;
        }
        self.suffer(self.inner.append(id, by, write)).await
    }

    fn batches_at_once(&self) -> usize {
        self.at_once
    }

    async fn append_all(&self, writes: &[Append]) -> Result<Vec<bool>, StoreError> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        // Somebody locks every fifth of them.
        let free = |place: u64| !(place + number).is_multiple_of(5);
        let asked: Vec<_> = (0..).zip(writes).filter(|it| free(it.0)).collect();
        let count = asked.len() as u64;
        let free: Vec<_> = asked.iter().map(|it| it.1.clone()).collect();
        let told = self.suffer(self.inner.append_all(&free)).await?;
        self.gathered.fetch_add(count, Ordering::Relaxed);
        let mut all = vec![self.boasts; writes.len()];
        for ((place, _), told) in asked.into_iter().zip(told) {
            all[usize::try_from(place).unwrap_or_default()] |= told;
        }
        Ok(all)
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
        self.suffer(self.inner.signal(signal)).await
    }

    async fn signal_in(
        &self,
        connection: Lent<'_>,
        signal: &NewSignal,
    ) -> Result<Sent, StoreError> {
        self.inner.signal_in(connection, signal).await
    }

    async fn signals(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        self.suffer(self.inner.signals(id, name)).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        self.suffer(self.inner.read(id)).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        self.inner.list(filter).await
    }

    async fn census(&self) -> Result<Vec<Census>, StoreError> {
        self.inner.census().await
    }

    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.suffer(self.inner.prune(age, limit)).await
    }
}
