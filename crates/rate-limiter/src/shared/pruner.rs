//! Removes idle keys from a store that does not forget by itself.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::sleep;

use super::SharedRateLimiter;
use crate::{EventKind, PolicyError, SharedError};

const EVERY: Duration = Duration::from_secs(60);
const BATCH: u32 = 1000;

/// Removes idle keys from a store that does not forget by itself (PostgreSQL, MySQL, SQLite), in batches.
/// One for all limiters on a store is enough, and any number of instances may run it: they take what the
/// others do not have. An idle key decides as one that was removed, so nothing but space depends on it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_rate_limiter::{Quota, SharedRateLimiter, store::MemoryStore};
///
/// let orders = SharedRateLimiter::new("orders", Quota::per_minute(1)?, MemoryStore::new())?;
/// # let shutdown = std::future::ready(());
/// orders.pruner().run_until(shutdown).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is removed until it runs"]
pub struct Pruner {
    limiter: SharedRateLimiter,
    every: Duration,
    batch: u32,
}

impl SharedRateLimiter {
    /// Removes idle keys from the store: every minute, a thousand at once.
    pub fn pruner(&self) -> Pruner {
        Pruner {
            limiter: self.clone(),
            every: EVERY,
            batch: BATCH,
        }
    }
}

impl Pruner {
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

    /// Removes one batch, and says how many keys it were.
    ///
    /// Dropping the future may leave it done or not done.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub async fn run_once(&self) -> Result<u64, SharedError> {
        let keys = self.limiter.prune(self.batch).await?;
        if keys > 0 {
            self.limiter.core.told.tell(EventKind::KeysPruned { keys });
        }
        Ok(keys)
    }

    /// Goes on until `shutdown` is ready. Full batches follow one another; after an error, which is a
    /// line of the log, it waits for its next time, twice as long with each error in a row, sixteen times
    /// at most. It never ends by itself.
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
        // Instances that were started together part: seeded by chance, as each hasher is.
        let (chance, mut round) = (RandomState::new(), 0_u64);
        let mut errors = 0;
        loop {
            match self.run_once().await {
                Ok(keys) => {
                    errors = 0;
                    if keys >= u64::from(self.batch) {
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
                Err(error) => {
                    let error = buttress_core::Chain(&error);
                    tracing::warn!(name = %self.limiter.name(), %error, "idle keys were not removed");
                    errors = (errors + 1).min(4);
                }
            }
            round += 1;
            let percent = 90 + u32::try_from(chance.hash_one(round) % 21).unwrap_or(0);
            sleep((self.every / 100 * percent).saturating_mul(1 << errors)).await;
        }
    }
}
