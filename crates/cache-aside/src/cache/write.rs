//! Writing the source through the cache.

use std::sync::Arc;

use super::{Cache, core::Core};
use crate::{Loaded, bus::Receipt, key::Key};

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// Writes the source by `write`, and keeps what it brings: the value as it is stored now, with its tags, or
    /// [`Loaded::not_found`] when it has been deleted. Returns that value.
    ///
    /// When two writes of one key cross each other in this process, or an invalidation comes in between, nobody
    /// knows whose value is the last: then none is kept, and the next caller loads. The same when the write
    /// fails, or its future is dropped: it may have been done. The second level is made to hold nothing, for writes
    /// of other processes are not seen here.
    ///
    /// Dropping the future drops the write where it is. What must be written whole runs in a task of its own.
    ///
    /// ```
    /// # use buttress_cache_aside::{Cache, CachePolicy};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # async fn update_price(price: u32) -> std::io::Result<u32> { Ok(price) }
    /// let prices = Cache::<u32>::new("prices", CachePolicy::default());
    /// let price = prices.write_through("product:7", || update_price(4200)).await?;
    /// assert_eq!((price, prices.get("product:7").await), (Some(4200), Some(4200)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The write's own.
    pub async fn write_through<F, T, E>(
        &self,
        key: impl AsRef<[u8]>,
        write: impl FnOnce() -> F,
    ) -> Result<Option<V>, E>
    where
        F: Future<Output = Result<T, E>>,
        T: Into<Loaded<V>>,
    {
        let writing = Writing::begin(self.core(), key.as_ref().into());
        let written = write().await?;
        let core = Arc::clone(&writing.core);
        let (value, receipt) = writing.end(written.into());
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
    /// While it is under way, what the second level holds is not believed.
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

    fn end(mut self, loaded: Loaded<V>) -> (Option<V>, Option<Receipt>) {
        let mut arrival = self.core.written(&self.key, loaded, self.born);
        let value = arrival.as_ref().and_then(|it| it.slot.value.clone());
        if let Some(arrival) = &mut arrival {
            let now = self.core.clock.now();
            self.core.cap(&mut arrival.slot.life, now);
        }
        // Until here the weigher or a clone may have panicked.
        self.is_over = true;
        self.core.end_write(&self.key, arrival);
        (value, self.owe_anew())
    }

    /// The write is done by now: what was paid for this key in the meantime was paid too early.
    fn owe_anew(&mut self) -> Option<Receipt> {
        let now = self.core.owe(|second| second.owe_removal(&self.key));
        if let Some(before) = self.receipt.take() {
            before.paid();
        }
        now
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Writing<V> {
    fn drop(&mut self) {
        if !self.is_over {
            // Nobody pays it here, so it is left to the task that looks after it.
            let _left = self.owe_anew();
            self.core.end_write(&self.key, None);
        }
    }
}
