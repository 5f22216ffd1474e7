//! Waiting in a line: first come, first served, and no longer than is allowed.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use buttress_core::Rejection;
use tokio::sync::{Notify, Semaphore};

use crate::{Decision, told::Told};

/// The line before one limiter. Whoever has the turn asks the limiter, and sleeps until it says yes;
/// nothing is taken before it does, so a waiter that is dropped has nothing to give back.
#[derive(Debug)]
pub(crate) struct Queue {
    turn: Semaphore,
    waiting: AtomicUsize,
    permits: AtomicU64,
    longest: usize,
    /// More may be there than whoever has the turn was told: he asks anew.
    changed: Notify,
}

/// A place in the line; dropping it leaves the line.
struct Place<'q> {
    queue: &'q Queue,
    permits: u64,
}

impl Queue {
    pub(crate) const fn new(longest: usize) -> Self {
        Self {
            turn: Semaphore::const_new(1),
            waiting: AtomicUsize::new(0),
            permits: AtomicU64::new(0),
            longest,
            changed: Notify::const_new(),
        }
    }

    /// Another quota holds, or permits were given back. Told to nobody, it is remembered, and the next who sleeps asks once
    /// more.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Takes permits at once, if they are there and nobody is in line before them: without a place, and
    /// without a timer.
    #[inline]
    pub(crate) fn at_once(&self, ask: impl Fn() -> Decision) -> Option<Decision> {
        if self.waiting() > 0 {
            return None;
        }
        Some(ask()).filter(Decision::is_allowed)
    }

    /// Waits for `permits`. `ask` takes them if they are there; `flow` says after how long so many
    /// will have flowed in, as far as that is known.
    pub(crate) async fn wait(
        &self,
        told: &Told,
        permits: u64,
        patience: Duration,
        ask: impl Fn() -> Decision,
        flow: impl Fn(u64) -> Duration,
    ) -> Result<Decision, Rejection> {
        let mut line = Line::new(self, told, permits, patience, &flow)?;
        let turn = self.turn.acquire();
        let Ok(_turn) = tokio::time::timeout(line.left(), turn).await else {
            return Err(told.turned_away(Some(flow(permits))));
        };
        loop {
            match line.step(told, ask())? {
                Step::Done(decision) => return Ok(decision),
                Step::Sleep(wait) => {
                    let _changed = tokio::time::timeout(wait, self.changed.notified()).await;
                }
            }
        }
    }

    /// The same, by blocking this thread.
    pub(crate) fn wait_blocking(
        &self,
        told: &Told,
        permits: u64,
        patience: Duration,
        ask: impl Fn() -> Decision,
        flow: impl Fn(u64) -> Duration,
    ) -> Result<Decision, Rejection> {
        let mut line = Line::new(self, told, permits, patience, &flow)?;
        // Nobody closes this semaphore.
        let Some(Ok(_turn)) = block_on(self.turn.acquire(), line.left()) else {
            return Err(told.turned_away(Some(flow(permits))));
        };
        loop {
            match line.step(told, ask())? {
                Step::Done(decision) => return Ok(decision),
                Step::Sleep(wait) => {
                    let _changed = block_on(self.changed.notified(), wait);
                }
            }
        }
    }

    fn enter(&self, permits: u64) -> Option<Place<'_>> {
        if self.waiting.fetch_add(1, Relaxed) >= self.longest {
            self.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        self.permits.fetch_add(permits, Relaxed);
        Some(Place {
            queue: self,
            permits,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Relaxed);
        self.queue.permits.fetch_sub(self.permits, Relaxed);
    }
}

enum Step {
    Done(Decision),
    Sleep(Duration),
}

/// One who waits, and until when.
struct Line<'q> {
    _place: Place<'q>,
    since: tokio::time::Instant,
    patience: Duration,
}

impl<'q> Line<'q> {
    #[expect(
        clippy::disallowed_methods,
        reason = "he sleeps by tokio's timer, so his patience is told by it"
    )]
    fn new(
        queue: &'q Queue,
        told: &Told,
        permits: u64,
        patience: Duration,
        flow: impl Fn(u64) -> Duration,
    ) -> Result<Self, Rejection> {
        let ahead = queue.permits.load(Relaxed);
        let place = queue.enter(permits);
        let Some(place) = place else {
            return Err(told.turned_away(Some(flow(ahead.saturating_add(permits)))));
        };
        // Those in front take first what flows in. Waiting for what comes too late helps nobody.
        let wait = flow(ahead.saturating_add(permits));
        if wait > patience {
            return Err(told.turned_away(Some(wait)));
        }
        Ok(Self {
            _place: place,
            since: tokio::time::Instant::now(),
            patience,
        })
    }

    fn left(&self) -> Duration {
        // tokio cannot count the longest durations.
        let left = self.patience.saturating_sub(self.since.elapsed());
        left.min(Duration::from_secs(365 * 86_400))
    }

    fn step(&mut self, told: &Told, decision: Decision) -> Result<Step, Rejection> {
        if decision.is_allowed() {
            return Ok(Step::Done(decision));
        }
        match decision.retry_after() {
            Some(wait) if wait <= self.left() => Ok(Step::Sleep(wait.max(Duration::from_nanos(1)))),
            wait => Err(told.turned_away(wait)),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until it comes, or so long.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread that is parked wakes by the system's clock"
)]
fn block_on<T>(comes: impl Future<Output = T>, patience: Duration) -> Option<T> {
    let until = std::time::Instant::now().checked_add(patience);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut comes = pin!(comes);
    loop {
        if let Poll::Ready(came) = comes.as_mut().poll(&mut context) {
            return Some(came);
        }
        match until {
            None => thread::park(),
            Some(until) => {
                let left = until.saturating_duration_since(std::time::Instant::now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        }
    }
}
