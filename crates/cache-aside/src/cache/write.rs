//! Writing the source through the cache.

use std::sync::Arc;

use super::{Cache, core::Core};
use crate::{Loaded, bus::Receipt, key::Key};

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// Writes the source by `write`, and keeps what it returns: the value as it is stored now.
    ///
    /// When two writes of one key cross each other in this process, or an invalidation comes in between, nobody
    /// knows whose value is the last: then none is kept, and the next caller loads. The same when the write
    /// fails, or its future is dropped: it may have been done. The second level is made to hold nothing, for writes
    /// of other processes are not seen here.
    ///
    /// Dropping the future drops the write where it is. What must be written whole runs in a task of its own.
    ///
    /// # Errors
    ///
    /// The write's own.
    pub async fn write_through<F, T, E>(
        &self,
        key: impl AsRef<[u8]>,
        write: impl FnOnce() -> F,
    ) -> Result<V, E>
    where
        F: Future<Output = Result<T, E>>,
        T: Into<V>,
    {
        let writing = Writing::begin(&self.core, key.as_ref().into());
        let value: V = write().await?.into();
        let (core, receipt) = (Arc::clone(&writing.core), writing.end(value.clone()));
        core.pay(receipt).await;
        Ok(value)
    }
}

/// A write to the source that is under way. Dropped, it may have been done.
struct Writing<V: Clone + Send + Sync + 'static> {
    core: Arc<Core<V>>,
    key: Key,
    born: u64,
    is_over: bool,
    /// Dropped with it, the debt is left.
    receipt: Option<Receipt>,
}

impl<V: Clone + Send + Sync + 'static> Writing<V> {
    fn begin(core: &Arc<Core<V>>, key: Key) -> Self {
        let receipt = core.owe(|second| second.owe_removal(&key));
        let mut stripe = core.flights.stripe(&key);
        stripe.begin_write(&key);
        let born = core.tags.now();
        drop(stripe);
        Self {
            core: Arc::clone(core),
            key,
            born,
            is_over: false,
            receipt,
        }
    }

    fn end(mut self, value: V) -> Option<Receipt> {
        self.is_over = true;
        let mut arrival = self.core.written(&self.key, Loaded::new(value), self.born);
        if let Some(arrival) = &mut arrival {
            let now = self.core.clock.now();
            self.core.cap(&mut arrival.slot.life, now);
        }
        self.core.end_write(&self.key, arrival);
        self.receipt.take()
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Writing<V> {
    fn drop(&mut self) {
        if !self.is_over {
            self.core.end_write(&self.key, None);
        }
    }
}
