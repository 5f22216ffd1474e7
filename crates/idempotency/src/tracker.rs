//! Work that goes on when nobody waits for it any more, and how it ends with the process.

use std::{
    any::Any,
    fmt,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// For how long keys are handed back after the bound was over.
const HANDING_BACK: Duration = Duration::from_secs(1);

/// The tasks of one handle: work whose caller may go, and keys that are being handed back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracker {
    tasks: TaskTracker,
    stopped: CancellationToken,
}

impl Tracker {
    /// Runs `work` on a task of its own, to its end or the end of the process.
    pub(crate) fn spawn<F>(&self, work: F) -> Tracked<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let stopped = self.stopped.clone();
        let task = self
            .tasks
            .spawn(async move { stopped.run_until_cancelled_owned(work).await });
        Tracked { task }
    }

    /// Runs something short that must be done although its caller is gone. Without a runtime it
    /// is not done.
    pub(crate) fn finish(&self, last: impl Future<Output = ()> + Send + 'static) {
        if Handle::try_current().is_ok() {
            self.tasks.spawn(last);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) async fn drain(&self, bound: Duration) -> Drained {
        self.tasks.close();
        if timeout(bound, self.tasks.wait()).await.is_ok() {
            return Drained { stopped: 0 };
        }
        let stopped = self.tasks.len();
        self.stopped.cancel();
        // What is dropped hands its key back, on tasks that are waited for here.
        let _ = timeout(HANDING_BACK, self.tasks.wait()).await;
        Drained { stopped }
    }
}

/// Work on a task of its own. Dropping this does not stop it: who waits for it may go.
#[must_use = "nobody learns what came of it otherwise"]
pub struct Tracked<T> {
    task: JoinHandle<Option<T>>,
}

impl<T> Future for Tracked<T> {
    /// `None`, when it was stopped: by [`drain`](crate::Idempotency::drain), or with its runtime.
    type Output = Option<T>;

    /// # Panics
    ///
    /// When the work has panicked, with its own words.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.task)
            .poll(context)
            .map(|ended| match ended {
                Ok(output) => output,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => resume_unwind(panic as Box<dyn Any + Send>),
                    Err(_) => None,
                },
            })
    }
}

impl<T> fmt::Debug for Tracked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked")
            .field("finished", &self.task.is_finished())
            .finish()
    }
}

/// How a handle's last tasks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// How many were not done when the bound was over, and were stopped. Their keys are in doubt,
    /// or released, as the policy says of abandoned ones.
    pub stopped: usize,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A step at the store that runs to its end although its caller may go: dropped in the middle, it
/// goes on as a task of its own, and what came of it is looked after there.
pub(crate) struct Finishing<T: 'static> {
    step: Option<Boxed<T>>,
    begun: bool,
    tracker: Tracker,
    /// What is left to do when nobody takes the result any more.
    after: fn(T) -> Option<Boxed<()>>,
}

impl<T> Finishing<T> {
    pub(crate) fn new(
        tracker: &Tracker,
        step: impl Future<Output = T> + Send + 'static,
        after: fn(T) -> Option<Boxed<()>>,
    ) -> Self {
        Self {
            step: Some(Box::pin(step)),
            begun: false,
            tracker: tracker.clone(),
            after,
        }
    }
}

impl<T> Future for Finishing<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(step) = &mut self.step else {
            // Polled after its end, as no future may be.
            return Poll::Pending;
        };
        let polled = step.as_mut().poll(context);
        if polled.is_ready() {
            self.step = None;
        }
        polled
    }
}

impl<T: 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        let Some(step) = self.step.take().filter(|_| self.begun) else {
            return;
        };
        let after = self.after;
        self.tracker.finish(async move {
            if let Some(last) = after(step.await) {
                last.await;
            }
        });
    }
}
