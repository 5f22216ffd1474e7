//! Removes what ended long ago.

use std::time::Duration;

use tokio::time::sleep;

use crate::{PolicyError, SagaError, Sagas};

const EVERY: Duration = Duration::from_secs(60);
const BATCH: u32 = 1000;

/// Removes sagas that ended longer ago than they are kept, with their journals, in batches. Any
/// number of instances may run it: they take what the others do not have. What runs, and what needs
/// attention, is never removed, and no child before its parent.
///
/// A saga's id protects from being started again only while it is kept: keep them for longer than
/// anybody would try.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use buttress_saga::{Sagas, store::MemoryStore};
///
/// let sagas = Sagas::new(MemoryStore::new());
/// # let shutdown = std::future::ready(());
/// let month = Duration::from_secs(30 * 86_400);
/// sagas.pruner(month).run_until(shutdown).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is removed until it runs"]
pub struct Pruner {
    sagas: Sagas,
    kept: Duration,
    every: Duration,
    batch: u32,
}

impl Sagas {
    /// Removes what ended longer ago than this: every minute, a thousand sagas at once.
    pub fn pruner(&self, kept: Duration) -> Pruner {
        Pruner {
            sagas: self.clone(),
            kept,
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
            return Err(PolicyError::new("every", "from 1 ms to a day"));
        }
        if !(1..=100_000).contains(&batch) {
            return Err(PolicyError::new("batch", "from 1 to 100,000"));
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
    /// [`SagaError::Store`].
    pub async fn run_once(&self) -> Result<u64, SagaError> {
        self.sagas.prune(self.kept, self.batch).await
    }

    /// Goes on until `shutdown` is ready. Full batches follow one another; after an error, which is
    /// logged, it waits for its next time, twice as long with each error in a row, sixteen times at
    /// most. It never ends by itself.
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
                Ok(removed) => {
                    errors = 0;
                    if removed > 0 {
                        tracing::debug!(removed, "sagas that ended long ago were removed");
                    }
                    if removed >= u64::from(self.batch) {
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %buttress_core::Chain(&error), "sagas were not pruned");
                    errors = (errors + 1).min(4);
                }
            }
            // Instances that were started together part.
            let part = rand::random_range(0.9..1.1);
            sleep(self.every.mul_f64(part).saturating_mul(1 << errors)).await;
        }
    }
}
