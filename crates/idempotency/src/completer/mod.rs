//! Finishes what was begun under a key and whose client never came again.

mod orphan;

use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use buttress_core::{ByResult, Class, Classify, Verdict};
use buttress_store::{Claim, Fence, LeaseLost, Token};
use tokio::time::sleep;

pub use self::orphan::{Adopted, Adoption, Kept, Orphan, Postponement};
use crate::{
    EventKind, Guard, Idempotency, IdempotencyError, PolicyError, ScopedKey, idempotency::Inner,
    store::Keeps, tracker::Finishing,
};

const IDLE: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(10);
const BATCH: u32 = 100;
const LAST_DRIVE: u32 = 10;
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) type Handling = Pin<Box<dyn Future<Output = Said> + Send>>;
type Handler = Box<dyn FnMut(Orphan) -> Handling + Send>;

/// What a handler says of a drive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) verdict: Verdict,
    /// If it was not done, it certainly had no effect.
    pub(crate) clean: bool,
}

/// Finishes what was begun by [`begin_keeping`](Idempotency::begin_keeping) and abandoned: a key
/// whose lease is over, and whose client does not come again. Its request is given to a handler,
/// with a guard that knows which phases were passed.
///
/// It drives one key at a time, each under a claim of its own: whoever comes with that key meanwhile
/// is told that it is in flight, and a handler that takes the process with it is counted against
/// its own key alone. Any number of completers may run, in any number of processes.
///
/// | | default | allowed |
/// | --- | --- | --- |
/// | idle: for so long nobody has held the key | 60 s | up to a day |
/// | it looks each, give or take a tenth | 10 s | 1 ms to a day |
/// | keys in a row, before it looks whether to stop | 100 | 1 to 100,000 |
/// | drives of one key | 10 | 1 to 1000 |
///
/// | the handler | and then |
/// | --- | --- |
/// | `Ok`, having completed the guard | the key is done |
/// | an error of class not done (its target is down) | the drive does not count; the completer pauses, twice as long each time in a row, sixteen times at most |
/// | an error of class unknown, a panic, a lost lease, the death of the process | the drive counts; the key waits twice as long each time, sixteen times at most |
/// | an error of class final, or the last drive | the key is parked: listed by [`unfinished`](Idempotency::unfinished), driven again after [`unpark`](Idempotency::unpark) |
///
/// An `Ok` that left the guard unfinished counts as a drive too. A key that passes a phase gets on:
/// its drives are counted from zero again.
#[must_use = "nothing is finished until it runs"]
pub struct Completer {
    idempotency: Idempotency,
    handler: Handler,
    idle: Duration,
    every: Duration,
    batch: u32,
    last_drive: u32,
    driver: Cow<'static, str>,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Driven {
    /// Keys whose handler said that it finished.
    pub finished: u32,
    /// Keys that wait for another drive.
    pub postponed: u32,
    /// Keys that are parked.
    pub parked: u32,
    /// The run ended before its batch, for what the handler works on is down.
    pub down: bool,
}

/// How a drive ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Finished,
    Postponed,
    Parked,
    Down,
}

impl Idempotency {
    /// A completer with this handler. Every error of it leaves the work in doubt, and counts.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress_idempotency::{CompleteError, Idempotency, Orphan, store::MemoryStore};
    ///
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// let completer = idempotency.completer(async |orphan: Orphan| {
    ///     let answer = format!("done: {} bytes", orphan.request.len()); // what the handler does
    ///     orphan.guard.complete(answer).await
    /// });
    /// # let shutdown = std::future::ready(());
    /// completer.run_until(shutdown).await;
    /// # Ok(()) }
    /// ```
    pub fn completer<E, F>(&self, handler: impl FnMut(Orphan) -> F + Send + 'static) -> Completer
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        self.completer_with(ByResult, handler)
    }

    /// The same, with a classifier of your own.
    pub fn completer_with<E, F>(
        &self,
        classify: impl Classify<(), E> + Send + Sync + 'static,
        mut handler: impl FnMut(Orphan) -> F + Send + 'static,
    ) -> Completer
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Send + 'static,
    {
        let classify = Arc::new(classify);
        let handler = move |orphan| -> Handling {
            let (handling, classify) = (handler(orphan), Arc::clone(&classify));
            Box::pin(async move {
                let verdict = classify.classify(handling.await.as_ref());
                let clean = true;
                Said { verdict, clean }
            })
        };
        Completer::new(self.clone(), Cow::Borrowed(""), handler)
    }

    /// The drives of this key are counted from zero again, and a completer may have it at once.
    /// `false` when there is nothing to drive: it is done, has expired, or its request was not kept.
    ///
    /// Dropping the future may leave it done or not done.
    ///
    /// # Errors
    ///
    /// When the store does not answer, or keeps no requests.
    pub async fn unpark(&self, key: &ScopedKey) -> Result<bool, IdempotencyError> {
        let inner = self.inner();
        keeps_requests(inner)?;
        let unparked = inner.store.unpark(key).await;
        Ok(unparked.inspect_err(|_| inner.failed("unpark"))?)
    }
}

impl Completer {
    /// One that drives what was kept for this driver.
    pub(crate) fn new(
        idempotency: Idempotency,
        driver: Cow<'static, str>,
        handler: impl FnMut(Orphan) -> Handling + Send + 'static,
    ) -> Self {
        Self {
            idempotency,
            handler: Box::new(handler),
            idle: IDLE,
            every: EVERY,
            batch: BATCH,
            last_drive: LAST_DRIVE,
            driver,
        }
    }

    /// The same, that leaves keys to their clients for so long after their lease.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], unless it is at most a day.
    pub fn idle(mut self, idle: Duration) -> Result<Self, PolicyError> {
        if idle > DAY {
            return Err(PolicyError::new("idle", "at most a day"));
        }
        self.idle = idle;
        Ok(self)
    }

    /// The same, that looks at these times, give or take a tenth. Pauses after failures begin with
    /// this too.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], unless it is from 1 ms to a day.
    pub fn every(mut self, every: Duration) -> Result<Self, PolicyError> {
        if !(Duration::from_millis(1)..=DAY).contains(&every) {
            return Err(PolicyError::new("every", "between 1 ms and a day"));
        }
        self.every = every;
        Ok(self)
    }

    /// The same, that drives so many keys in a row.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], unless it is from 1 to 100,000.
    pub fn batch(mut self, batch: u32) -> Result<Self, PolicyError> {
        if !(1..=100_000).contains(&batch) {
            return Err(PolicyError::new("batch", "between 1 and 100,000"));
        }
        self.batch = batch;
        Ok(self)
    }

    /// The same, that parks a key after so many drives.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], unless it is from 1 to 1000.
    pub fn drives(mut self, drives: u32) -> Result<Self, PolicyError> {
        if !(1..=1000).contains(&drives) {
            return Err(PolicyError::new("drives", "between 1 and 1000"));
        }
        self.last_drive = drives;
        Ok(self)
    }

    /// Drives what is due now, up to a batch, one after another.
    ///
    /// Dropping the future begins nothing new. The key that is being driven is driven to its end on
    /// a task that [`drain`](Idempotency::drain) waits for.
    ///
    /// # Errors
    ///
    /// When the store does not answer, or keeps no requests.
    pub async fn run_once(&mut self) -> Result<Driven, IdempotencyError> {
        keeps_requests(self.idempotency.inner())?;
        let mut driven = Driven::default();
        for _ in 0..self.batch {
            match self.next().await? {
                None => break,
                Some(Ended::Finished) => driven.finished += 1,
                Some(Ended::Postponed) => driven.postponed += 1,
                Some(Ended::Parked) => driven.parked += 1,
                Some(Ended::Down) => {
                    driven.postponed += 1;
                    driven.down = true;
                    break;
                }
            }
        }
        Ok(driven)
    }

    /// Goes on until `shutdown` is ready. Full batches follow one another; after an error of the
    /// store, and while what the handler works on is down, it pauses. It never ends by itself.
    ///
    /// The key that is being driven then is driven to its end on a task of its own, for which
    /// [`drain`](Idempotency::drain) waits. Dropping the future is the same.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.run() => {}
        }
    }

    async fn run(&mut self) {
        let mut errors = 0;
        loop {
            match self.run_once().await {
                Ok(driven) if !driven.down => {
                    errors = 0;
                    if driven.finished + driven.postponed + driven.parked >= self.batch {
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
                Ok(_) | Err(_) => errors = (errors + 1).min(4),
            }
            // Instances that were started together part.
            let part = rand::random_range(0.9..1.1);
            sleep(self.every.mul_f64(part).saturating_mul(1 << errors)).await;
        }
    }

    /// Claims one key and drives it.
    async fn next(&mut self) -> Result<Option<Ended>, IdempotencyError> {
        let inner = Arc::clone(self.idempotency.inner());
        let tracker = inner.tracker.clone();
        let adopting = adopt(inner, self.idle, self.last_drive, self.driver.clone());
        // Whom nobody drives any more is due at once.
        let adopted = Finishing::new(&tracker, adopting, |adopted| match adopted {
            Ok(Some((adopted, guard))) => Some(Box::pin(async move {
                let inner = Arc::clone(&guard.inner);
                let back = Postponement::new(Some(Duration::ZERO), false, true);
                postpone(&inner, &adopted.key, adopted.fence, back).await;
                guard.let_go();
            })),
            _ => None,
        });
        let Some((adopted, mut guard)) = adopted.await? else {
            return Ok(None);
        };
        let inner = Arc::clone(&guard.inner);
        inner.tell(EventKind::Adopted {
            drive: adopted.drive,
        });
        let drive = Drive {
            pause: self
                .every
                .saturating_mul(1 << adopted.drive.saturating_sub(1).min(4)),
            is_last: adopted.drive >= self.last_drive,
            moved: guard.watch_progress(),
            lost: Box::pin(guard.watch()),
            key: adopted.key,
            fence: adopted.fence,
            inner,
        };
        let orphan = Orphan {
            guard,
            request: adopted.request,
            drive: adopted.drive,
            fingerprint: adopted.fingerprint,
        };
        let handling = catch_unwind(AssertUnwindSafe(|| (self.handler)(orphan))).ok();
        let ended = self.idempotency.spawn(drive.run(handling)).await;
        // Stopped by a drain: the guard is dropped, and the key waits for its lease.
        Ok(Some(ended.unwrap_or(Ended::Postponed)))
    }
}

/// A key under way, and what is said of it in the end.
struct Drive {
    inner: Arc<Inner>,
    key: ScopedKey,
    fence: Fence,
    lost: Pin<Box<dyn Future<Output = LeaseLost> + Send>>,
    pause: Duration,
    is_last: bool,
    moved: Arc<AtomicBool>,
}

impl Drive {
    async fn run(mut self, handling: Option<Handling>) -> Ended {
        let said = match handling {
            Some(handling) => tokio::select! {
                biased;
                said = caught(handling) => said,
                // Another may be at it: what this one would say is refused.
                _ = &mut self.lost => return Ended::Postponed,
            },
            None => None,
        };
        let class = said.map_or(Class::Unknown, |it| it.verdict.class());
        let told = said.and_then(|it| it.verdict.retry_after());
        let (told, clean) = (told.unwrap_or_default(), said.is_some_and(|it| it.clean));
        // What got on is not at its end.
        let is_last = self.is_last && !self.moved.load(Relaxed);
        let pause = self.pause.mul_f64(rand::random_range(0.9..1.1)).max(told);
        let (ended, postponement) = match class {
            Class::Done => return Ended::Finished,
            Class::NotDone => (Ended::Down, Postponement::new(Some(pause), false, clean)),
            Class::Unknown if !is_last => (
                Ended::Postponed,
                Postponement::new(Some(pause), true, false),
            ),
            Class::Unknown | Class::Final => (Ended::Parked, Postponement::new(None, true, false)),
            _ => (
                Ended::Postponed,
                Postponement::new(Some(pause), true, false),
            ),
        };
        if postpone(&self.inner, &self.key, self.fence, postponement).await {
            self.inner.tell(match ended {
                Ended::Parked => EventKind::Parked,
                _ => EventKind::Postponed,
            });
        }
        ended
    }
}

fn keeps_requests(inner: &Inner) -> Result<(), IdempotencyError> {
    match inner.store.keeps() {
        Keeps::Requests => Ok(()),
        _ => Err(IdempotencyError::NoRequests),
    }
}

async fn adopt(
    inner: Arc<Inner>,
    idle: Duration,
    last_drive: u32,
    driver: Cow<'static, str>,
) -> Result<Option<(Adopted, Guard)>, IdempotencyError> {
    let (lease, retention) = (inner.policy.lease(), inner.policy.retention());
    let times = [lease.length(), retention];
    let adoption = Adoption::new(Token::random(), times, idle, last_drive).for_driver(driver);
    // The lease counts from before the call.
    let claim = Claim::new(lease, inner.clock.clone());
    let adopted = inner.store.adopt(&adoption).await;
    let Some(adopted) = adopted.inspect_err(|_| inner.failed("adopt"))? else {
        return Ok(None);
    };
    let (key, lease) = (adopted.key.clone(), claim.granted(adopted.fence));
    let passed = adopted.progress.clone().into_bytes();
    Ok(Some((adopted, Guard::new(inner, key, lease, passed))))
}

/// Whether it is written down. What is not is due when its lease is over, and has counted.
async fn postpone(inner: &Inner, key: &ScopedKey, fence: Fence, to: Postponement) -> bool {
    let postponed = inner.store.postpone(key, fence, to).await;
    postponed.unwrap_or_else(|_| {
        inner.failed("postpone");
        false
    })
}

/// What came of it; `None` when it panicked.
async fn caught(mut handling: Handling) -> Option<Said> {
    std::future::poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(context)));
        match polled {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

impl fmt::Debug for Completer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer")
            .field("idempotency", &self.idempotency)
            .field("idle", &self.idle)
            .field("every", &self.every)
            .field("batch", &self.batch)
            .field("drives", &self.last_drive)
            .finish_non_exhaustive()
    }
}
