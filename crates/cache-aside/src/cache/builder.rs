//! Making a cache.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use buttress_core::{Clock, Observer, Observers, Registry};

use super::{
    Cache,
    core::{Chance, Core, Weigher},
};
use crate::{
    CachePolicy, Event, SecondLevel, event::Told, flight::Flights, level::Level, second::Second,
    tag::Tags,
};

/// Makes a [`Cache`].
#[must_use]
pub struct CacheBuilder<V> {
    told: Told,
    policy: CachePolicy,
    clock: Option<Clock>,
    weigher: Option<Weigher<V>>,
    chance: Option<Chance>,
    registry: Option<Registry>,
    second: Option<SecondLevel<V>>,
}

impl<V: Clone + Send + Sync + 'static> CacheBuilder<V> {
    pub(super) const fn new(name: Cow<'static, str>, policy: CachePolicy) -> Self {
        Self {
            told: Told {
                name,
                observers: Observers::none(),
            },
            policy,
            clock: None,
            weigher: None,
            chance: None,
            registry: None,
            second: None,
        }
    }

    /// The clock that it is told the time by. With quanta's a hit costs a third less than with tokio's,
    /// the default. Timeouts are tokio's, whatever the clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// One more who hears what happens. With one there, every read makes an event.
    pub fn observer(mut self, observer: impl Observer<Event> + 'static) -> Self {
        self.told.observers = self.told.observers.with(observer);
        self
    }

    /// What an entry takes of the capacity, once, when it comes: bytes, for example. Without it each takes
    /// one. Called outside of all locks; zero counts as one.
    pub fn weigher(mut self, weigh: impl Fn(&[u8], &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigh));
        self
    }

    /// Where random numbers come from, for tests: all 64 bits are used. The system's by default.
    pub fn random(mut self, source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.chance = Some(Arc::new(source));
        self
    }

    /// Lists it there, as long as it lives.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// A second level behind this one, which other instances share. The cache is then built within a runtime of
    /// tokio's: two tasks of its own keep it informed, and end with it.
    pub fn second_level(mut self, second: SecondLevel<V>) -> Self {
        self.second = Some(second);
        self
    }

    /// The cache.
    ///
    /// # Panics
    ///
    /// With a second level, outside of a runtime of tokio's.
    #[must_use]
    pub fn build(self) -> Cache<V> {
        let level = Level::new(&self.policy, self.weigher.is_some());
        let clock = self.clock.unwrap_or_default();
        let second = self
            .second
            .map(|second| Second::new(second, self.told.clone()));
        let core = Arc::new(Core {
            told: self.told,
            policy: self.policy,
            clock: clock.clone(),
            second,
            behind: OnceLock::new(),
            tags: Tags::new(),
            level,
            flights: Flights::new(),
            weigher: self.weigher,
            chance: self.chance,
        });
        if let Some(second) = &core.second {
            second.start(&core, clock);
        }
        if let Some(registry) = self.registry {
            registry.add(&core);
        }
        Cache { core }
    }
}

impl<V> fmt::Debug for CacheBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("name", &self.told.name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
