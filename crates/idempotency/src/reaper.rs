//! Removes what has expired.

use std::time::Duration;

use tokio::time::sleep;

use crate::{EventKind, Idempotency, IdempotencyError, PolicyError};

const EVERY: Duration = Duration::from_secs(60);
const BATCH: u32 = 1000;

/// Removes records that have expired, in batches. Any number of instances may run it: they take
/// what the others do not have. What has expired is as if it were not there whether it has been
/// removed or not, so nothing but space depends on it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_idempotency::{Idempotency, store::MemoryStore};
///
/// let idempotency = Idempotency::new(MemoryStore::new());
/// # let shutdown = std::future::ready(());
/// idempotency.reaper().run_until(shutdown).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is removed until it runs"]
pub struct Reaper {
    idempotency: Idempotency,
    every: Duration,
    batch: u32,
}

impl Idempotency {
    /// Removes what has expired: every minute, a thousand records at once.
    pub fn reaper(&self) -> Reaper {
        Reaper {
            idempotency: self.clone(),
            every: EVERY,
            batch: BATCH,
        }
    }
}

impl Reaper {
    /// The same, that looks at these times, give or take a tenth, and takes so many at once.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], unless `every` is from 1 ms to a day, and `batch` from 1 to 100,000.
    pub fn with(mut self, every: Duration, batch: u32) -> Result<Self, PolicyError> {
        if !(Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&every) {
            return Err(PolicyError::new("every", "between 1 ms and a day"));
        }
        if !(1..=100_000).contains(&batch) {
            return Err(PolicyError::new("batch", "between 1 and 100,000"));
        }
        (self.every, self.batch) = (every, batch);
        Ok(self)
    }

    /// Removes one batch, and says how many it were.
    ///
    /// Dropping the future may leave it done or not done.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub async fn run_once(&self) -> Result<u64, IdempotencyError> {
        let inner = self.idempotency.inner();
        let reaped = inner.store.reap(self.batch).await;
        let records = reaped.inspect_err(|_| inner.failed("reap"))?;
        if records > 0 {
            inner.tell(EventKind::Reaped { records });
        }
        Ok(records)
    }

    /// Goes on until `shutdown` is ready. Full batches follow one another; after an error, which
    /// is told as an event, it waits for its next time, twice as long with each error in a row,
    /// sixteen times at most. It never ends by itself.
    ///
    /// Dropping the future stops it as `shutdown` does.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.run() => {}
        }
    }

    async fn run(&self) {
        let mut errors = 0;
        loop {
            match self.run_once().await {
                Ok(records) => {
                    errors = 0;
                    if records >= u64::from(self.batch) {
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
                Err(_) => errors = (errors + 1).min(4),
            }
            // Instances that were started together part.
            let part = rand::random_range(0.9..1.1);
            sleep(self.every.mul_f64(part).saturating_mul(1 << errors)).await;
        }
    }
}
