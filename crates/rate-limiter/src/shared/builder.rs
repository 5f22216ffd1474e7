//! Making a shared limiter.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, RwLock, atomic::AtomicBool},
    time::Duration,
};

use buttress_core::{Clock, Observer, Observers, Registry};
use buttress_store::{Gate, Key};

use super::{
    Core, SharedRateLimiter, WhenDown,
    lease::{LeaseRule, Leases},
};
use crate::{Event, KeyedRateLimiter, PolicyError, Quota, machine::Plan, store::Store, told::Told};

/// Makes a [`SharedRateLimiter`].
///
/// | what | default | range |
/// | --- | --- | --- |
/// | when the store is down | [`WhenDown::Local`] | |
/// | deadline of a question | 500 ms | the gate's: 1 ms to 1 h |
/// | lease | none | 2 permits to the burst; 10 ms to 1 min |
/// | keys held here: of leases, and while the store is down | 100,000 | 1 to 100,000,000 |
/// | longest key | what the name leaves of 254 bytes | 1 byte to that |
/// | name | | 1 to 100 characters of ASCII: it is part of the key in the store, where a colon or a percent sign of it takes three bytes |
#[must_use]
pub struct SharedRateLimiterBuilder {
    told: Told,
    quota: Quota,
    store: Arc<dyn Store>,
    gate: Gate,
    when_down: WhenDown,
    lease: Option<(u64, Duration)>,
    keys: usize,
    longest_key: Option<usize>,
    shadow: bool,
    clock: Clock,
    registry: Option<Registry>,
}

impl SharedRateLimiterBuilder {
    pub(super) fn new(name: Cow<'static, str>, quota: Quota, store: Arc<dyn Store>) -> Self {
        Self {
            told: Told {
                name,
                observers: Observers::none(),
            },
            quota,
            store,
            gate: Gate::redis(),
            when_down: WhenDown::default(),
            lease: None,
            keys: 100_000,
            longest_key: None,
            shadow: false,
            clock: Clock::default(),
            registry: None,
        }
    }

    /// What is done while the store cannot be asked.
    pub const fn when_down(mut self, when_down: WhenDown) -> Self {
        self.when_down = when_down;
        self
    }

    /// The gate before the store: its deadline, and what it knows of the store's health. Share one with
    /// whatever else asks the same store.
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Takes `permits` at once, and gives them out without asking, for `life` at most; refusals are
    /// remembered as well. A hot key then costs one question per slice.
    ///
    /// What it costs: in any window, each instance may give out up to one slice more than the quota
    /// admits (taken before the window, given out in it), and what it does not give out within `life`
    /// is lost: up to one slice per instance and `life`.
    pub const fn lease(mut self, permits: u64, life: Duration) -> Self {
        self.lease = Some((permits, life));
        self
    }

    /// How many keys are held in this process: of leases, and of the limiter that goes on while the store
    /// is down.
    pub const fn max_local_keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    /// The longest key, in bytes.
    pub const fn longest_key(mut self, bytes: usize) -> Self {
        self.longest_key = Some(bytes);
        self
    }

    /// Decides, tells, and lets everything through.
    pub const fn shadow(mut self, shadow: bool) -> Self {
        self.shadow = shadow;
        self
    }

    /// The clock of leases, and of the limiter that goes on while the store is down.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// One more who hears what happens. With one there, every decision makes an event.
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
    /// A quota that cannot work in a store: a sliding log, a period that is no whole number of
    /// microseconds, numbers beyond what a store's arithmetic holds exactly. A share of it that cannot work:
    /// less than one permit in 366 days. A lease, a number of keys or a length out of its range.
    pub fn build(self) -> Result<SharedRateLimiter, PolicyError> {
        let plan = Plan::shared(&self.quota)?;
        if !self.told.name.is_ascii() || !(1..=100).contains(&self.told.name.len()) {
            return Err(PolicyError::new("name", "1 to 100 characters of ASCII"));
        }
        let prefix = prefix(&self.told.name);
        let room = Key::LONGEST.saturating_sub(prefix.len());
        let longest_key = self.longest_key.unwrap_or(room);
        if !(1..=room).contains(&longest_key) {
            return Err(PolicyError::new(
                "longest_key",
                "1 to 254 bytes without the name's",
            ));
        }
        if !(1..=100_000_000).contains(&self.keys) {
            return Err(PolicyError::new("max_local_keys", "1 to 100000000"));
        }
        let leases = match self.lease {
            None => None,
            Some((slice, life)) => {
                if !(2..=plan.most()).contains(&slice) {
                    return Err(PolicyError::new("lease.permits", "2 to the burst"));
                }
                if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&life) {
                    return Err(PolicyError::new("lease.life", "10 ms to 1 min"));
                }
                let life = u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
                Some(Leases::new(LeaseRule { slice, life }, self.keys))
            }
        };
        let local = match self.when_down.share() {
            Some(instances) => {
                let quota = self.quota.shared_by(instances)?;
                let local = KeyedRateLimiter::builder(self.told.name.clone(), quota);
                let local = local.max_keys(self.keys).clock(self.clock.clone());
                Some(local.build()?)
            }
            None => None,
        };
        let core = Arc::new(Core {
            store: self.store,
            gate: self.gate,
            plan: RwLock::new((Arc::new(plan), self.quota)),
            local,
            when_down: self.when_down,
            leases,
            told: self.told,
            shadow: AtomicBool::new(self.shadow),
            down: AtomicBool::new(false),
            longest_key,
            prefix,
            clock: self.clock,
        });
        if let Some(registry) = self.registry {
            registry.add(&core);
        }
        Ok(SharedRateLimiter { core })
    }
}

/// What stands before a key in the store: the name and a colon, which is the first. A key may begin with
/// anything, so a name with a colon of its own would be another name, and the beginning of a key.
fn prefix(name: &str) -> Vec<u8> {
    let name = name.replace('%', "%25").replace(':', "%3A");
    [name.as_bytes(), b":"].concat()
}

impl fmt::Debug for SharedRateLimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRateLimiterBuilder")
            .field("name", &self.told.name)
            .field("quota", &self.quota)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
