//! Making a concurrency limiter.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use buttress_core::{Clock, Observer, Observers, Registry};
use tokio::sync::Semaphore;

use super::{AdaptiveLimit, ConcurrencyLimiter, Core, Limit, adaptive::Adaptive};
use crate::{Event, PolicyError, told::Told};

/// Makes a [`ConcurrencyLimiter`].
#[derive(Debug)]
#[must_use]
pub struct ConcurrencyLimiterBuilder {
    told: Told,
    places: usize,
    waiting: Option<usize>,
    patience: Duration,
    adaptive: Option<AdaptiveLimit>,
    clock: Clock,
    registry: Option<Registry>,
}

impl ConcurrencyLimiterBuilder {
    pub(super) const MOST: usize = 1_000_000;

    pub(super) fn new(name: Cow<'static, str>, places: usize) -> Self {
        Self {
            told: Told {
                name,
                observers: Observers::none(),
            },
            places,
            waiting: None,
            patience: Duration::from_secs(1),
            adaptive: None,
            clock: Clock::default(),
            registry: None,
        }
    }

    /// How many may wait in line: 0 to 1,000,000. As many as there are places, by default.
    pub const fn max_waiting(mut self, waiting: usize) -> Self {
        self.waiting = Some(waiting);
        self
    }

    /// How long one may wait. A second by default.
    pub const fn max_wait(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The number of places follows what becomes of the calls, and begins with that of the builder: by
    /// [`Gradient2`](super::Gradient2), [`Vegas`](super::Vegas) or [`Aimd`](super::Aimd).
    pub fn adaptive(mut self, rule: impl Into<AdaptiveLimit>) -> Self {
        self.adaptive = Some(rule.into());
        self
    }

    /// The clock by which an adaptive limit measures latencies. Without one it reads none.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// One more who hears what happens.
    pub fn observer(mut self, observer: impl Observer<Event> + 'static) -> Self {
        self.told.observers = self.told.observers.with(observer);
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
    /// What cannot work: the field, and its range.
    pub fn build(self) -> Result<ConcurrencyLimiter, PolicyError> {
        let range = 1..=Self::MOST;
        if !range.contains(&self.places) {
            return Err(PolicyError::new("places", "1 to 1000000"));
        }
        let longest = self.waiting.unwrap_or(self.places);
        if longest > Self::MOST {
            return Err(PolicyError::new("max_waiting", "0 to 1000000"));
        }
        let adaptive = self.adaptive.map(|it| it.build(self.places)).transpose()?;
        let places = adaptive.as_ref().map_or(self.places, Adaptive::first);
        let core = Arc::new(Core {
            places: Arc::new(Semaphore::new(places)),
            limit: Mutex::new(Limit { places }),
            owed: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            longest,
            patience: self.patience,
            told: self.told,
            clock: self.clock,
            adaptive,
        });
        if let Some(registry) = self.registry {
            registry.add(&core);
        }
        Ok(ConcurrencyLimiter { core })
    }
}
