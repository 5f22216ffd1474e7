//! One call that many wait for: polled by one of them, dropped with the last.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::BatchError;
use crate::flight::panicked;

/// A future that ends once for all who wait for it.
pub(super) struct Call<T> {
    /// One permit: who holds it polls. Closed when it has ended.
    wheel: Semaphore,
    work: Mutex<Option<BoxFuture<'static, Result<T, BatchError>>>>,
    ended: OnceLock<Result<T, BatchError>>,
}

impl<T> Call<T> {
    pub(super) fn new(work: BoxFuture<'static, Result<T, BatchError>>) -> Self {
        Self {
            wheel: Semaphore::const_new(1),
            work: Mutex::new(Some(work)),
            ended: OnceLock::new(),
        }
    }

    /// What it ended with. May be dropped at any point: another who waits goes on from there.
    pub(super) async fn end(&self) -> &Result<T, BatchError> {
        // No permit any more: it has ended.
        if let Ok(_wheel) = self.wheel.acquire().await {
            poll_fn(|context| self.poll_work(context)).await;
        }
        let ended = self.ended.get();
        ended.expect("the wheel is given up only once it has ended")
    }

    fn work(&self) -> MutexGuard<'_, Option<BoxFuture<'static, Result<T, BatchError>>>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is taken out to be polled, so that no lock is held meanwhile.
    fn poll_work(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut work) = self.work().take() else {
            return Poll::Ready(());
        };
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        let ended = match polled {
            Ok(Poll::Pending) => {
                *self.work() = Some(work);
                return Poll::Pending;
            }
            Ok(Poll::Ready(ended)) => ended,
            Err(panic) => Err(BatchError::Panicked(panicked(&*panic))),
        };
        // What it still holds is the user's, and may panic once more.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(work)));
        let ended = match dropped {
            Ok(()) => ended,
            Err(panic) => Err(BatchError::Panicked(panicked(&*panic))),
        };
        // Nobody else is at the wheel, so it was not set.
        let _first = self.ended.set(ended);
        self.wheel.close();
        Poll::Ready(())
    }
}
