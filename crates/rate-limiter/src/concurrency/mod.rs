//! So many at once: a bulkhead, with a line of bounded length before it.

mod adaptive;
mod aimd;
mod builder;
mod gradient2;
mod permit;
mod vegas;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{CallError, Clock, Registered, Rejection, RejectionKind};
use tokio::sync::Semaphore;

use self::adaptive::Adaptive;
pub use self::{
    adaptive::AdaptiveLimit, aimd::Aimd, builder::ConcurrencyLimiterBuilder, gradient2::Gradient2,
    permit::ConcurrencyPermit, vegas::Vegas,
};
use crate::{EventKind, PolicyError, told::Told};

/// So many at once: a bulkhead. Who comes when all places are taken waits in line, first come, first
/// served; the line and the wait are bounded. Cheap to clone; clones share the places.
///
/// A place is a [`ConcurrencyPermit`], and comes back when that is dropped, whatever becomes of its
/// holder. With an [`AdaptiveLimit`], the number of places follows what becomes of
/// the calls.
///
/// | what | default | range |
/// | --- | --- | --- |
/// | places | | 1 to 1,000,000 |
/// | may wait | as many as there are places | 0 to 1,000,000 |
/// | wait | 1 s | any |
///
/// ```
/// use buttress_rate_limiter::ConcurrencyLimiter;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = ConcurrencyLimiter::new("database", 8)?;
/// let row = database.call(async { Ok::<_, std::io::Error>(7) }).await?;
/// assert_eq!((row, database.running()), (7, 0));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConcurrencyLimiter {
    core: Arc<Core>,
}

struct Core {
    places: Arc<Semaphore>,
    limit: Mutex<Limit>,
    /// Places that are to go with the next permits that come back. Changed under the lock alone.
    owed: AtomicUsize,
    running: AtomicUsize,
    waiting: AtomicUsize,
    longest: usize,
    patience: Duration,
    told: Told,
    clock: Clock,
    adaptive: Option<Adaptive>,
}

struct Limit {
    places: usize,
}

impl ConcurrencyLimiter {
    /// So many at once; as many more may wait, a second each.
    ///
    /// # Errors
    ///
    /// Outside of 1 to 1,000,000.
    pub fn new(name: impl Into<Cow<'static, str>>, places: usize) -> Result<Self, PolicyError> {
        Self::builder(name, places).build()
    }

    /// Chooses more than the number.
    pub fn builder(name: impl Into<Cow<'static, str>>, places: usize) -> ConcurrencyLimiterBuilder {
        ConcurrencyLimiterBuilder::new(name.into(), places)
    }

    /// Takes a place if one is free and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`Rejection`] of the kind `ConcurrencyLimited`.
    pub fn try_acquire(&self) -> Result<ConcurrencyPermit, Rejection> {
        match Arc::clone(&self.core.places).try_acquire_owned() {
            Ok(place) => Ok(ConcurrencyPermit::new(&self.core, place)),
            Err(_) => Err(self.core.rejected()),
        }
    }

    /// Takes a place, and waits for it in line as long as the builder says.
    ///
    /// Dropping the future leaves the line; a place that was just given to it goes to the next.
    ///
    /// # Errors
    ///
    /// [`Rejection`] of the kind `ConcurrencyLimited`, when too many wait or it takes too long.
    pub async fn acquire(&self) -> Result<ConcurrencyPermit, Rejection> {
        if let Ok(place) = Arc::clone(&self.core.places).try_acquire_owned() {
            return Ok(ConcurrencyPermit::new(&self.core, place));
        }
        let _waiter = Waiter::enter(&self.core).ok_or_else(|| self.core.rejected())?;
        let place = Arc::clone(&self.core.places).acquire_owned();
        let longest = Duration::from_secs(365 * 86_400);
        let patience = self.core.patience.min(longest);
        match tokio::time::timeout(patience, place).await {
            Ok(Ok(place)) => Ok(ConcurrencyPermit::new(&self.core, place)),
            // The semaphore is never closed, so it is the time that is over.
            _ => Err(self.core.rejected()),
        }
    }

    /// Runs `operation` in a place of its own.
    ///
    /// Dropping the future drops the operation and gives the place back.
    ///
    /// # Errors
    ///
    /// The rejection, or the operation's own error.
    pub async fn call<T, E>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        let permit = self.acquire().await?;
        let result = operation.await;
        match &result {
            Ok(_) => permit.succeeded(),
            Err(_) => drop(permit),
        }
        result.map_err(CallError::Failed)
    }

    /// Runs what blocks this thread, if a place is free. Never waits.
    ///
    /// # Errors
    ///
    /// The rejection, or the operation's own error.
    pub fn call_blocking<T, E>(
        &self,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        let permit = self.try_acquire()?;
        let result = operation();
        match &result {
            Ok(_) => permit.succeeded(),
            Err(_) => drop(permit),
        }
        result.map_err(CallError::Failed)
    }

    /// How many may run at once, now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.core.limit().places
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.core.running.load(Relaxed)
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.core.waiting.load(Relaxed)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.told.name
    }

    /// Changes the number of places. With fewer, those who run go on, and their places go when they
    /// come back.
    ///
    /// # Errors
    ///
    /// Outside of 1 to 1,000,000.
    pub fn set_limit(&self, places: usize) -> Result<(), PolicyError> {
        if !(1..=ConcurrencyLimiterBuilder::MOST).contains(&places) {
            return Err(PolicyError::new("places", "1 to 1000000"));
        }
        self.core.set_limit(places);
        Ok(())
    }
}

impl Core {
    fn rejected(&self) -> Rejection {
        self.told.tell(EventKind::TurnedAway);
        Rejection::new(RejectionKind::ConcurrencyLimited, self.told.name.clone())
    }

    fn limit(&self) -> MutexGuard<'_, Limit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_limit(&self, places: usize) {
        let mut limit = self.limit();
        let from = limit.places;
        if places >= from {
            let more = places - from;
            // What was to go stays; the rest is new.
            let kept = more.min(self.owed.load(Relaxed));
            self.owed.fetch_sub(kept, Relaxed);
            self.places.add_permits(more - kept);
        } else {
            let fewer = from - places;
            let gone = self.places.forget_permits(fewer);
            self.owed.fetch_add(fewer - gone, Relaxed);
        }
        limit.places = places;
        drop(limit);
        if from != places {
            self.told.tell(EventKind::LimitMoved { from, to: places });
        }
    }

    /// Whether a place that comes back is to go.
    fn must_go(&self) -> bool {
        if self.owed.load(Relaxed) == 0 {
            return false;
        }
        let _limit = self.limit();
        let owed = self.owed.load(Relaxed);
        if owed > 0 {
            self.owed.store(owed - 1, Relaxed);
        }
        owed > 0
    }
}

/// One who waits; dropping it leaves the line.
struct Waiter<'c>(&'c Core);

impl<'c> Waiter<'c> {
    fn enter(core: &'c Core) -> Option<Self> {
        if core.waiting.fetch_add(1, Relaxed) >= core.longest {
            core.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self(core))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for ConcurrencyLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimiter")
            .field("name", &self.name())
            .field("limit", &self.limit())
            .field("running", &self.running())
            .field("waiting", &self.waiting())
            .finish()
    }
}

impl Registered for Core {
    fn pattern(&self) -> &'static str {
        "concurrency_limiter"
    }

    fn name(&self) -> &str {
        &self.told.name
    }

    fn state(&self) -> &'static str {
        match self.places.available_permits() {
            0 => "full",
            _ => "open",
        }
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let [running, waiting] =
            [&self.running, &self.waiting].map(|count| count.load(Relaxed) as u64);
        each(
            "buttress_concurrency_limiter_limit",
            self.limit().places as u64,
        );
        each("buttress_concurrency_limiter_running", running);
        each("buttress_concurrency_limiter_waiting", waiting);
    }
}
