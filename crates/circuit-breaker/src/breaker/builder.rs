//! Making a breaker.

use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Clock, Observer, Observers, Registry};
use tokio::sync::Notify;

use super::{CircuitBreaker, Core, core::OwnRules};
use crate::{Counts, Event, Opening, Policy, PolicyError, Snapshot, cell::Cell, chance::Chance};

/// Makes a [`CircuitBreaker`]. Whatever is not chosen is complete by default.
#[derive(Clone)]
#[must_use]
pub struct CircuitBreakerBuilder {
    name: Cow<'static, str>,
    policy: Policy,
    clock: Clock,
    observers: Observers<Event>,
    chance: Chance,
    own: OwnRules,
    registry: Option<Registry>,
    restored: Option<Snapshot>,
}

impl CircuitBreakerBuilder {
    pub(super) fn new(name: Cow<'static, str>) -> Self {
        Self {
            name,
            policy: Policy::default(),
            clock: Clock::default(),
            observers: Observers::none(),
            chance: Chance::default(),
            own: OwnRules::default(),
            registry: None,
            restored: None,
        }
    }

    /// When it opens, and when it closes again.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The clock that it is told the time by. A time window and slow calls read it with every
    /// call: there, quanta's or a ticked one is worth it.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// One more who hears what happens. With one there, every call makes an event.
    pub fn observer(mut self, observer: impl Observer<Event> + 'static) -> Self {
        self.observers = self.observers.with(observer);
        self
    }

    /// A rule of your own over the window: beside the thresholds, the breaker opens when it says
    /// so. It is asked when the counts have changed and the minimum of calls is reached, outside
    /// of all locks, by many threads at once. If it panics, that is logged and counts as `false`.
    ///
    /// With no window there is nothing to ask about, and it is never asked.
    pub fn trip_when(mut self, rule: impl Fn(&Counts) -> bool + Send + Sync + 'static) -> Self {
        self.own.predicate = Some(Arc::new(rule));
        self
    }

    /// A rule of your own for how long it opens. It may be asked for an opening that another
    /// thread then makes. If it panics, that is logged and the policy's time holds.
    pub fn open_time(
        mut self,
        rule: impl Fn(&Opening) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.own.open_time = Some(Arc::new(rule));
        self
    }

    /// Where jitter comes from, for tests that want the same each time: any `u64`, evenly spread.
    pub fn random(mut self, source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.chance = Chance::from_fn(source);
        self
    }

    /// Lists it there, as long as it lives.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Begins in the state of another life. An open one stays open for the time that was left when
    /// the snapshot was taken; a half-open one begins a new round with its first call; an isolated
    /// one is what it was beneath. The window is empty.
    pub fn restore(mut self, snapshot: Snapshot) -> Self {
        self.restored = Some(snapshot);
        self
    }

    /// The breaker.
    #[must_use]
    pub fn build(self) -> CircuitBreaker {
        let registry = self.registry.clone();
        let breaker = self.build_keyed(None);
        if let Some(registry) = registry {
            registry.add(breaker.core());
        }
        breaker
    }

    /// For breakers of many keys: the registry apart, and nothing that is restored.
    pub(crate) fn into_template(mut self) -> (Self, Option<Registry>) {
        self.restored = None;
        let registry = self.registry.take();
        (self, registry)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn build_keyed(self, key: Option<Arc<str>>) -> CircuitBreaker {
        let limits = self.policy.limits();
        let cell = Cell::new(&limits, self.policy.abandoned, self.policy.rules(), |tag| {
            self.policy.new_window(tag)
        });
        if let Some(snapshot) = self.restored {
            let (told, openings) = snapshot.told(self.clock.now());
            cell.restore(told, openings);
        }
        CircuitBreaker {
            core: Arc::new(Core {
                name: self.name,
                key,
                cell,
                clock: self.clock,
                observers: self.observers,
                chance: self.chance,
                own: self.own,
                shadow: AtomicBool::new(self.policy.shadow),
                policy: RwLock::new(self.policy),
                bell: Notify::new(),
                late: AtomicU64::new(0),
                fleet: OnceLock::new(),
                closed_by_hand: AtomicU64::new(0),
            }),
        }
    }
}

impl Core {
    pub(super) fn set_policy(&self, policy: Policy) -> Result<(), PolicyError> {
        let moved = {
            let mut held = self.policy.write().unwrap_or_else(PoisonError::into_inner);
            if held.window != policy.window {
                return Err(PolicyError::new(
                    "window",
                    "the same: what was counted would not fit another",
                ));
            }
            let moved = self
                .cell
                .set_policy(&policy.limits(), policy.abandoned, policy.rules());
            self.shadow.store(policy.shadow, Relaxed);
            *held = policy;
            moved
        };
        self.moved(moved);
        Ok(())
    }
}

impl std::fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CircuitBreakerBuilder")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .field("clock", &self.clock)
            .field("observers", &self.observers)
            .field("chance", &self.chance)
            .finish_non_exhaustive()
    }
}
