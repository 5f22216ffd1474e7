//! One load per key: who wants its value polls it, and it ends with the last of them.
//!
//! A flight has one seat at the wheel. Who sits there polls the load; the others wait for the seat or for the
//! landing, whichever comes first. When the one at the wheel goes away, the next takes over where he was: the
//! load is kept in the flight, not in a caller. When the last passenger goes, the load is dropped.

mod table;

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use buttress_core::Moment;
use tokio::sync::Semaphore;

pub(crate) use self::table::{Flights, Stripe};
use crate::{CacheError, cache::Core, fetch::Arrival, key::Key};

/// A load under way: it ends with what is to be kept, or with an error.
pub(crate) type Load<V> =
    Pin<Box<dyn Future<Output = Result<Arrival<V>, CacheError>> + Send + 'static>>;

/// What all passengers of a flight get.
pub(crate) type Landed<V> = Result<Arrival<V>, CacheError>;

pub(crate) struct Flight<V> {
    pub(crate) key: Key,
    /// The number with which it began.
    pub(crate) born: u64,
    pub(crate) begun: Moment,
    /// There was a value when it began, but a stale one.
    pub(crate) had_stale: bool,
    /// One permit: who holds it polls. Closed when it has landed.
    wheel: Semaphore,
    load: Mutex<Option<Load<V>>>,
    landed: OnceLock<Landed<V>>,
}

impl<V> Flight<V> {
    pub(crate) const fn new(
        key: Key,
        born: u64,
        begun: Moment,
        had_stale: bool,
        load: Load<V>,
    ) -> Self {
        Self {
            key,
            born,
            begun,
            had_stale,
            wheel: Semaphore::const_new(1),
            load: Mutex::new(Some(load)),
            landed: OnceLock::new(),
        }
    }

    fn load(&self) -> MutexGuard<'_, Option<Load<V>>> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who wants the value of a flight. Dropping it leaves the flight.
pub(crate) struct Passenger<V: Clone + Send + Sync + 'static> {
    core: Arc<Core<V>>,
    flight: Arc<Flight<V>>,
    /// The counter's number when he came.
    pub(crate) boarded: u64,
}

impl<V: Clone + Send + Sync + 'static> Passenger<V> {
    pub(crate) const fn new(core: Arc<Core<V>>, flight: Arc<Flight<V>>, boarded: u64) -> Self {
        Self {
            core,
            flight,
            boarded,
        }
    }

    pub(crate) fn flight(&self) -> &Flight<V> {
        &self.flight
    }

    /// Flies to the end. May be dropped at any point: another passenger goes on from there.
    pub(crate) async fn ride(&self) -> Landed<V> {
        // No permit any more: it has landed.
        if let Ok(_wheel) = self.flight.wheel.acquire().await {
            poll_fn(|context| self.poll_load(context)).await;
        }
        let landed = self.flight.landed.get().cloned();
        landed.expect("the wheel is free of a load only once it has landed")
    }

    /// Polls the load. It is taken out for that, so that no lock is held meanwhile.
    fn poll_load(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut load) = self.flight.load().take() else {
            return Poll::Ready(());
        };
        let polled = catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(context)));
        let landed = match polled {
            Ok(Poll::Pending) => {
                *self.flight.load() = Some(load);
                return Poll::Pending;
            }
            Ok(Poll::Ready(landed)) => landed,
            Err(panic) => Err(CacheError::Panicked(panicked(&*panic))),
        };
        // What the load still holds is the user's, and may panic once more.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(load))) {
            self.land(Err(CacheError::Panicked(panicked(&*panic))));
            return Poll::Ready(());
        }
        self.land(landed);
        Poll::Ready(())
    }

    fn land(&self, landed: Landed<V>) {
        let landed = self.core.land(&self.flight, landed);
        // Nobody else is at the wheel, so it was not set.
        let _ = self.flight.landed.set(landed);
        self.flight.wheel.close();
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Passenger<V> {
    fn drop(&mut self) {
        // What has landed is listed no more.
        if self.flight.landed.get().is_none() {
            let unlisted = self
                .core
                .flights
                .stripe(&self.flight.key)
                .leave(&self.flight);
            drop(unlisted);
        }
    }
}

/// What a panic said.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Arc<str> {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    words.unwrap_or("no words").into()
}
