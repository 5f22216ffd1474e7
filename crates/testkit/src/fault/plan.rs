//! Which operation gets which fault.

use std::{
    fmt,
    future::{pending, poll_fn},
    pin::pin,
    process::abort,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use tokio::time::sleep;

use super::{CrashPoint, Fault, Injected, Injection};
use crate::tally::Counting;

/// Counts operations, and does to some of them what it was told. `E` is the store's error.
///
/// Clones are the same plan: a wrapper has one, the test another. Operations are counted in the
/// order in which they begin; where several run at once that order is not the test's.
pub struct Plan<E> {
    shared: Arc<Shared<E>>,
}

struct Shared<E> {
    injections: Vec<Injection>,
    crash: Option<CrashPoint>,
    error: Box<dyn Fn(Injected) -> E + Send + Sync>,
    state: Mutex<State>,
    counting: Counting,
}

#[derive(Debug, Default)]
struct State {
    begun: Vec<&'static str>,
    struck: u32,
}

impl<E> Plan<E> {
    /// Lets everything through, and counts.
    #[must_use]
    pub fn none() -> Self {
        // No injection, so no error is ever asked for.
        Self::build(Vec::new(), None, |_| unreachable!("nothing is injected"))
    }

    /// Does each of these, and has `error` make the store's error of it.
    #[must_use]
    pub fn new(
        injections: impl IntoIterator<Item = Injection>,
        error: impl Fn(Injected) -> E + Send + Sync + 'static,
    ) -> Self {
        Self::build(injections.into_iter().collect(), None, error)
    }

    /// Aborts the process at `point`: no destructor runs, nothing is flushed. For a process that a
    /// test has started to see it die.
    #[must_use]
    pub fn crash(point: CrashPoint) -> Self {
        Self::build(Vec::new(), Some(point), |_| {
            unreachable!("nothing is injected")
        })
    }

    fn build(
        injections: Vec<Injection>,
        crash: Option<CrashPoint>,
        error: impl Fn(Injected) -> E + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                injections,
                crash,
                error: Box::new(error),
                state: Mutex::default(),
                counting: Counting::here(),
            }),
        }
    }

    /// The next operation, called `name` in messages: runs `future`, or does to it what is planned.
    ///
    /// Dropping this drops the operation, which counts all the same.
    ///
    /// # Errors
    ///
    /// The operation's own, or the injected one.
    pub async fn around<T>(
        &self,
        name: &'static str,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (number, fault) = self.begin(name);
        let crash = self.shared.crash;
        if crash == Some(CrashPoint::Before(number)) {
            abort();
        }
        let injected = |injected| Err((self.shared.error)(injected));
        let result = match fault {
            None => future.await,
            Some(Fault::Before) => injected(Injected::NotDone),
            Some(Fault::DoneThenError) => {
                future.await?;
                injected(Injected::Done)
            }
            Some(Fault::Hang) => pending().await,
            Some(Fault::DoneThenHang) => {
                // Its result, whatever it is, does not arrive.
                let _ = future.await;
                pending().await
            }
            Some(Fault::Slow(by)) => {
                sleep(by).await;
                future.await
            }
            Some(Fault::Reset) => {
                begin_only(future).await;
                injected(Injected::Reset)
            }
        };
        if crash == Some(CrashPoint::After(number)) {
            abort();
        }
        result
    }

    /// How many operations have begun.
    #[must_use]
    pub fn operations(&self) -> u32 {
        let begun = self.state().begun.len();
        u32::try_from(begun).unwrap_or(u32::MAX)
    }

    /// Their names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.state().begun.clone()
    }

    /// How many of the planned faults have struck.
    #[must_use]
    pub fn struck(&self) -> u32 {
        self.state().struck
    }

    fn begin(&self, name: &'static str) -> (u32, Option<Fault>) {
        let number = {
            let mut state = self.state();
            state.begun.push(name);
            u32::try_from(state.begun.len()).unwrap_or(u32::MAX)
        };
        let mut planned = self.shared.injections.iter();
        let fault = planned.find(|it| it.operation == number).map(|it| it.fault);
        self.shared.counting.operation();
        if fault.is_some() {
            self.state().struck += 1;
            self.shared.counting.fault();
        }
        (number, fault)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls it once, and drops it.
async fn begin_only<F: Future>(future: F) {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

impl<E> Clone for Plan<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<E> fmt::Debug for Plan<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("injections", &self.shared.injections)
            .field("crash", &self.shared.crash)
            .field("state", &*self.state())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use tokio::{
        task::yield_now,
        time::{Instant, timeout},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What the operation returned, or `None` when it hung, and whether it was done.
    async fn strike(fault: Fault, waits: bool) -> (Option<Result<(), Injected>>, bool) {
        let done = AtomicU32::new(0);
        let plan = Plan::new([Injection::new(2, fault)], |injected| injected);
        let operation = || async {
            if waits {
                yield_now().await;
            }
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        assert_eq!(plan.around("first", operation()).await, Ok(()));
        let result = timeout(2 * SECOND, plan.around("second", operation())).await;
        let was_done = done.load(Ordering::Relaxed) == 2;
        assert_eq!(plan.around("third", operation()).await, Ok(()));
        assert_eq!(plan.names(), ["first", "second", "third"]);
        assert_eq!((plan.operations(), plan.struck()), (3, 1));
        (result.ok(), was_done)
    }

    #[tokio::test(start_paused = true)]
    async fn each_fault_is_what_it_says() {
        for (fault, result, done) in [
            (Fault::Before, Some(Err(Injected::NotDone)), false),
            (Fault::DoneThenError, Some(Err(Injected::Done)), true),
            (Fault::Hang, None, false),
            (Fault::DoneThenHang, None, true),
            (Fault::Slow(SECOND), Some(Ok(())), true),
            (Fault::Reset, Some(Err(Injected::Reset)), false),
        ] {
            let start = Instant::now();
            assert_eq!(strike(fault, true).await, (result, done), "{fault:?}");
            assert_eq!(
                start.elapsed() >= SECOND,
                matches!(fault, Fault::Slow(_) | Fault::Hang | Fault::DoneThenHang)
            );
        }
        let unwaiting = strike(Fault::Reset, false).await;
        assert_eq!(unwaiting, (Some(Err(Injected::Reset)), true));
    }
}
