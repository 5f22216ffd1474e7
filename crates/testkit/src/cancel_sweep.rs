//! A future is dropped at every point at which it can be dropped, and after each one it is checked.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use futures_util::task::AtomicWaker;

use crate::tally::Counting;

/// More polls than any operation of ours needs.
const POLLS: u32 = 10_000;
/// How long one run of an operation may take, or one check, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a run of the operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// It was dropped as soon as this many polls had returned `Pending`.
    Waiting(u32),
    /// It was polled so many times, waited until it was woken, and was then dropped before it
    /// could see why: what it waited for had come, and nobody took it.
    Woken(u32),
    /// It completed. This is the last point, unless more than one completion is wanted.
    Completed,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(polls) => write!(f, "dropped while waiting after poll {polls}"),
            Self::Woken(polls) => write!(f, "dropped when woken after poll {polls}"),
            Self::Completed => f.write_str("completed"),
        }
    }
}

/// What a sweep came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept<T> {
    /// At how many points the operation was dropped. Zero: it completes without waiting, and
    /// nothing was swept.
    pub points: u32,
    /// What the operation returned when it was let through at last.
    pub output: T,
}

/// Runs `operation` again and again, and drops it at each point at which it waits: first as soon
/// as poll k has returned `Pending`, then, in a run of its own, when it has been woken after poll
/// k and not been polled again, for k = 1, 2, … until it completes. After each run `check` is
/// told the [`Point`] and says, by a panic, what does not hold.
///
/// The future is polled only when it was woken, as an executor does, so what is swept are its
/// awaits and not the turns of the loop around it. It runs on the caller's task, on tokio, with
/// real I/O if it does some.
///
/// It proves that the check holds after each of these drops *in this schedule*. How many polls an
/// operation takes depends, with real I/O, on how fast the answers come: one that is there already
/// is not waited for, and a point that did not occur was not swept. Two things help. A proxy
/// (feature `proxy`) on the same single-threaded runtime makes every answer one that is waited
/// for, also when it does nothing else. [`CancelSweep::confirmed`] does not take one lucky run for
/// the end, where the other side is a thread. Nothing is said about futures that other tasks drop
/// at the same time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use buttress_testkit::cancel_sweep::cancel_sweep;
/// use tokio::sync::Semaphore;
///
/// let slots = Semaphore::new(1);
/// let swept = cancel_sweep(
///     async || {
///         let _slot = slots.acquire().await;
///         tokio::task::yield_now().await;
///     },
///     async |_point| assert_eq!(slots.available_permits(), 1),
/// )
/// .await;
/// assert!(swept.points > 0);
/// # }
/// ```
///
/// # Panics
///
/// When the check does; when the operation takes more than 10,000 polls; when one of its runs or a
/// check takes more than a minute.
pub async fn cancel_sweep<T>(
    operation: impl AsyncFnMut() -> T,
    check: impl AsyncFnMut(Point),
) -> Swept<T> {
    CancelSweep::default().run(operation, check).await
}

/// A [`cancel_sweep`] with other bounds.
#[derive(Clone, Copy, Debug)]
pub struct CancelSweep {
    polls: u32,
    confirmed: u32,
    patience: Duration,
}

impl Default for CancelSweep {
    fn default() -> Self {
        Self {
            polls: POLLS,
            confirmed: 1,
            patience: PATIENCE,
        }
    }
}

impl CancelSweep {
    /// How many polls the operation may take.
    #[must_use]
    pub const fn polls(mut self, at_most: u32) -> Self {
        self.polls = at_most;
        self
    }

    /// How many runs in a row must complete, before there is taken to be no further point. More
    /// than one is for operations that wait for other threads or real I/O: how many polls they
    /// take is chance, and one lucky run would end the sweep.
    #[must_use]
    pub const fn confirmed(mut self, times: u32) -> Self {
        self.confirmed = times;
        self
    }

    /// How long a run of the operation, or of the check, may take.
    #[must_use]
    pub const fn patience(mut self, at_most: Duration) -> Self {
        self.patience = at_most;
        self
    }

    /// As [`cancel_sweep`].
    ///
    /// # Panics
    ///
    /// As [`cancel_sweep`], with these bounds.
    pub async fn run<T>(
        self,
        mut operation: impl AsyncFnMut() -> T,
        mut check: impl AsyncFnMut(Point),
    ) -> Swept<T> {
        let mut points = 0;
        for polls in 1..=self.polls {
            let mut completed = 0;
            loop {
                let waiting = Point::Waiting(polls);
                let Some(output) = self.once(waiting, &mut operation, &mut check).await else {
                    points += 1;
                    break;
                };
                completed += 1;
                if completed >= self.confirmed {
                    // The run that was let through was judged as well, if it was the only one.
                    let counting = Counting::here();
                    counting.drops(points);
                    counting.operation();
                    return Swept { points, output };
                }
            }
            let woken = Point::Woken(polls);
            // That it completes this time says nothing: the run before has shown that it can wait.
            if self.once(woken, &mut operation, &mut check).await.is_none() {
                points += 1;
            }
        }
        panic!(
            "cancel sweep: the operation had not completed after {} polls",
            self.polls
        );
    }

    async fn once<T>(
        self,
        point: Point,
        operation: &mut impl AsyncFnMut() -> T,
        check: &mut impl AsyncFnMut(Point),
    ) -> Option<T> {
        let run = dropped_at(point, operation());
        let output = self.within("the operation", point, run).await;
        let reached = match output {
            Some(_) => Point::Completed,
            None => point,
        };
        self.within("the check", reached, check(reached)).await;
        output
    }

    async fn within<T>(self, what: &str, point: Point, future: impl Future<Output = T>) -> T {
        let _told = TellWhere(point);
        match tokio::time::timeout(self.patience, future).await {
            Ok(output) => output,
            Err(_) => panic!(
                "cancel sweep: {what} did not end within {:?}; point: {point}",
                self.patience
            ),
        }
    }
}

/// Says at which point it was when a check panics, for the check's own words cannot.
struct TellWhere(Point);

impl Drop for TellWhere {
    #[expect(clippy::print_stderr, reason = "libtest shows it with the failed test")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("cancel sweep: the operation was {}", self.0);
        }
    }
}

/// The future, dropped at `point`: then `None`. Or its output, when it completes before.
fn dropped_at<F: Future>(point: Point, future: F) -> DroppedAt<F> {
    DroppedAt {
        future: Some(Box::pin(future)),
        bell: Arc::new(Bell {
            rung: AtomicBool::new(true),
            task: AtomicWaker::new(),
        }),
        point,
        polls: 0,
    }
}

struct DroppedAt<F> {
    future: Option<Pin<Box<F>>>,
    bell: Arc<Bell>,
    point: Point,
    polls: u32,
}

/// Knows whether the future itself was woken, whatever else its task is polled for.
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Future for DroppedAt<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // First this, then the look: a bell between the two is heard.
        this.bell.task.register(context.waker());
        if !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let Some(future) = &mut this.future else {
            return Poll::Ready(None);
        };
        if this.point != Point::Woken(this.polls) {
            let waker = Waker::from(Arc::clone(&this.bell));
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(Some(output));
            }
            this.polls += 1;
            if this.point != Point::Waiting(this.polls) {
                return Poll::Pending;
            }
        }
        this.future = None;
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        future::{pending, poll_fn},
        panic::AssertUnwindSafe,
        sync::atomic::AtomicU32,
    };

    use futures_util::FutureExt as _;
    use tokio::{
        sync::{Semaphore, oneshot},
        task::yield_now,
    };

    use super::*;

    async fn failure(sweep: impl Future) -> String {
        let Err(panic) = AssertUnwindSafe(sweep).catch_unwind().await else {
            panic!("the sweep found nothing")
        };
        match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
        }
    }

    #[tokio::test]
    async fn every_await_is_a_point_and_the_last_run_completes() {
        let done = RefCell::new(Vec::new());
        let swept = cancel_sweep(
            async || {
                done.borrow_mut().clear();
                for step in 0..3 {
                    yield_now().await;
                    done.borrow_mut().push(step);
                }
                "output"
            },
            async |point| {
                let steps = done.borrow().len();
                match point {
                    Point::Waiting(polls) | Point::Woken(polls) => {
                        assert_eq!(steps, usize::try_from(polls).unwrap() - 1);
                    }
                    Point::Completed => assert_eq!(steps, 3),
                }
            },
        )
        .await;
        assert_eq!(swept.points, 6);
        assert_eq!(swept.output, "output");
    }

    #[tokio::test]
    async fn a_lucky_run_ends_no_sweep_that_wants_to_be_sure() {
        let runs = Cell::new(0);
        let sometimes_waits = async || {
            runs.set(runs.get() + 1);
            if runs.get() % 3 == 0 {
                yield_now().await;
            }
        };
        let swept = cancel_sweep(sometimes_waits, async |_| {}).await;
        assert_eq!((swept.points, runs.get()), (0, 1));
        runs.set(0);
        let sure = CancelSweep::default().confirmed(3);
        let swept = sure.run(sometimes_waits, async |_| {}).await;
        assert!(swept.points > 0);
    }

    #[tokio::test]
    async fn what_never_waits_has_no_points() {
        let swept = cancel_sweep(
            async || 7,
            async |point| {
                assert_eq!(point, Point::Completed);
            },
        );
        assert_eq!(
            swept.await,
            Swept {
                points: 0,
                output: 7
            }
        );
    }

    #[tokio::test]
    async fn a_future_is_polled_only_when_it_was_woken() {
        let polls = Cell::new(0);
        let sweep = cancel_sweep(
            async || {
                polls.set(0);
                let mut woken = false;
                poll_fn(|context| {
                    polls.set(polls.get() + 1);
                    if woken {
                        return Poll::Ready(());
                    }
                    woken = true;
                    let waker = context.waker().clone();
                    tokio::spawn(async move {
                        for _ in 0..20 {
                            yield_now().await;
                        }
                        waker.wake();
                    });
                    Poll::Pending
                })
                .await;
                polls.get()
            },
            async |_| {},
        );
        let noise = async {
            loop {
                yield_now().await;
            }
        };
        // A select polls all its branches, whichever was woken.
        let swept = tokio::select! { swept = sweep => swept, () = noise => unreachable!() };
        assert_eq!(
            swept,
            Swept {
                points: 2,
                output: 2
            }
        );
    }

    #[tokio::test]
    async fn a_planted_leak_on_drop_is_found() {
        let slots = Semaphore::new(1000);
        let text = failure(cancel_sweep(
            async || {
                slots.acquire().await.unwrap().forget();
                yield_now().await;
                slots.add_permits(1);
            },
            async |_| assert!(slots.available_permits() == 1000, "a slot is gone"),
        ));
        assert_eq!(text.await, "a slot is gone");
    }

    #[tokio::test]
    async fn a_planted_gift_that_is_lost_with_its_taker_is_found_by_the_woken_points_alone() {
        let stock = Arc::new(AtomicU32::new(1));
        let failed_at = Cell::new(None);
        let text = failure(cancel_sweep(
            async || {
                let (giver, taker) = oneshot::channel();
                let giving = Arc::clone(&stock);
                tokio::spawn(async move {
                    giving.fetch_sub(1, Ordering::SeqCst);
                    // The naive part: given is not yet taken.
                    if giver.send(()).is_err() {
                        giving.fetch_add(1, Ordering::SeqCst);
                    }
                });
                taker.await.unwrap();
                stock.fetch_add(1, Ordering::SeqCst);
            },
            async |point| {
                for _ in 0..10 {
                    yield_now().await;
                }
                failed_at.set(Some(point));
                assert!(stock.load(Ordering::SeqCst) == 1, "the gift is gone");
            },
        ));
        assert_eq!(text.await, "the gift is gone");
        assert_eq!(failed_at.get(), Some(Point::Woken(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_completes_fails_by_name() {
        let forever = cancel_sweep(async || pending::<()>().await, async |_| {});
        assert_eq!(
            failure(forever).await,
            "cancel sweep: the operation did not end within 60s; \
             point: dropped when woken after poll 1"
        );
        let busy = CancelSweep::default().polls(5).run(
            async || {
                loop {
                    yield_now().await;
                }
            },
            async |_| {},
        );
        assert_eq!(
            failure(busy).await,
            "cancel sweep: the operation had not completed after 5 polls"
        );
        let check = CancelSweep::default()
            .patience(Duration::from_secs(3))
            .run(async || yield_now().await, async |_| pending().await);
        assert_eq!(
            failure(check).await,
            "cancel sweep: the check did not end within 3s; \
             point: dropped while waiting after poll 1"
        );
    }
}
