//! Making a limiter.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, RwLock, atomic::AtomicBool},
};

use buttress_core::{Clock, Observer, Observers, Registry};

use super::{Core, RateLimiter};
use crate::{Event, PolicyError, Quota, cell::Gcra, machine::Plan, queue::Queue, told::Told};

/// Makes a [`RateLimiter`].
#[must_use]
pub struct RateLimiterBuilder {
    told: Told,
    quota: Quota,
    clock: Option<Clock>,
    shadow: bool,
    waiting: usize,
    initial: Option<u64>,
    registry: Option<Registry>,
}

impl RateLimiterBuilder {
    pub(super) const fn new(name: Cow<'static, str>, quota: Quota) -> Self {
        Self {
            told: Told {
                name,
                observers: Observers::none(),
            },
            quota,
            clock: None,
            shadow: false,
            waiting: 1024,
            initial: None,
            registry: None,
        }
    }

    /// The clock that it is told the time by. With quanta's a decision is three times as fast as with
    /// tokio's, the default; with `Clock::coarse` the exact time is read only where it matters, and a
    /// refusal's wait may be told longer by two of the kernel's ticks; one that is late by a tick may give
    /// out a tick's worth more.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// One more who hears what happens. With one there, every decision makes an event.
    pub fn observer(mut self, observer: impl Observer<Event> + 'static) -> Self {
        self.told.observers = self.told.observers.with(observer);
        self
    }

    /// Decides, tells, and lets everything through.
    pub const fn shadow(mut self, shadow: bool) -> Self {
        self.shadow = shadow;
        self
    }

    /// How many may wait in line; the next is turned away. 1024 by default.
    pub const fn max_waiting(mut self, waiting: usize) -> Self {
        self.waiting = waiting;
        self
    }

    /// Begins with so many permits instead of a full burst, in each bandwidth that holds more.
    pub const fn initial(mut self, permits: u64) -> Self {
        self.initial = Some(permits);
        self
    }

    /// Lists it there, as long as it lives.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// The limiter.
    ///
    /// # Errors
    ///
    /// A quota that cannot work.
    pub fn build(self) -> Result<RateLimiter, PolicyError> {
        let plan = Plan::in_process(&self.quota)?;
        let clock = self.clock.unwrap_or_default();
        let now = clock.now().as_nanos();
        let gcra = match self.initial {
            None => Gcra::new(plan),
            Some(initial) => Gcra::beginning(plan, now, initial),
        };
        let core = Arc::new(Core {
            gcra,
            clock,
            told: self.told,
            shadow: AtomicBool::new(self.shadow),
            queue: Queue::new(self.waiting),
            quota: RwLock::new(self.quota),
        });
        if let Some(registry) = self.registry {
            registry.add(&core);
        }
        Ok(RateLimiter { core })
    }
}

impl fmt::Debug for RateLimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiterBuilder")
            .field("name", &self.told.name)
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}
