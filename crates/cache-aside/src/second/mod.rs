//! The second level, as a cache uses it: asked before the source, filled behind a token, told of every change.
//!
//! It may be away. Then it costs one deadline, the gate closes, and everything works from the source alone; what it
//! should have been told is owed to it, and what it holds under a key that is owed is not believed.

mod find;
mod pay;
mod turn;

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use buttress_core::{Clock, Moment};
use buttress_store::{Deadline, Gate, Key, StoreError};
use tokio::task::JoinHandle;

pub use self::turn::LeasePolicy;
pub(crate) use self::{
    find::{Filled, Find, Wanted},
    turn::Turn,
};
use crate::{
    EventKind, PolicyError,
    bus::{Bus, Line, LinePolicy, LinePolicyError, News, Owed},
    cache::Core,
    codec::Framing,
    event::Told,
    key::composite_key,
    machine::Life,
    store::{CacheStore, Stamp},
};

/// The longest key on the wire: the cache's name and the user's key.
const LONGEST_KEY: usize = 16 * 1024;
/// The most debts before they become one for everything.
const MOST_DEBTS: usize = 10_000;

/// A second level for a [`Cache`](crate::Cache): a store, how values are written, and how instances hear of changes.
///
/// | setting | default | allowed |
/// | --- | --- | --- |
/// | `staleness` | 1 s | 1 ms to 1 h |
/// | `gate` | 500 ms an operation; left alone for 1 s, doubling to 30 s | see [`Gate`] |
/// | `bus` | none | see [`LinePolicy`] |
/// | `one_load` | off | see [`LeasePolicy`] |
pub struct SecondLevel<V> {
    store: Arc<dyn CacheStore>,
    framing: Framing<V>,
    gate: Gate,
    bus: Option<(Arc<dyn Bus>, LinePolicy)>,
    staleness: Duration,
    lease: Option<LeasePolicy>,
}

impl<V> SecondLevel<V> {
    /// A store, and frames for what it keeps.
    pub fn new(store: impl CacheStore + 'static, framing: Framing<V>) -> Self {
        Self {
            store: Arc::new(store),
            framing,
            gate: Gate::redis(),
            bus: None,
            staleness: Duration::from_secs(1),
            lease: None,
        }
    }

    /// The same with a bus, on which instances tell each other what changed.
    ///
    /// # Errors
    ///
    /// [`LinePolicyError`], when the policy cannot work.
    pub fn bus(
        mut self,
        bus: impl Bus + 'static,
        policy: LinePolicy,
    ) -> Result<Self, LinePolicyError> {
        self.bus = Some((Arc::new(bus), policy.checked()?));
        Ok(self)
    }

    /// The same with another bound on how old the first level may be: a change that another instance has finished is
    /// not overlooked for longer.
    ///
    /// With a bus, the first level is served from only while everything said until so long ago has been heard; two
    /// beats of the line are the least that is of use. Without one, its entries are looked at again in the second
    /// level after so long.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], when it is not between a millisecond and an hour.
    pub fn staleness(mut self, staleness: Duration) -> Result<Self, PolicyError> {
        let allowed = Duration::from_millis(1)..=Duration::from_secs(3600);
        if !allowed.contains(&staleness) {
            return Err(PolicyError::new("staleness", "between 1 ms and 1 h"));
        }
        self.staleness = staleness;
        Ok(self)
    }

    /// The same with one load of a key for all instances, where without it each makes one: who misses takes a lease in the
    /// store, and the others wait for what he brings.
    ///
    /// Off by default, for it makes callers wait for a process that they do not see. It fails open: a store that is away,
    /// a holder that died, a load that is slow cost a caller `wait` at most (and the deadline of the look before it), and
    /// then he loads for himself. It bounds no staleness, and loosens none: a fill is decided by its token.
    ///
    /// One takes no lease for many keys at once (`get_many_or_load`), nor for what the second level cannot keep.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], when the policy cannot work.
    pub fn one_load(mut self, policy: LeasePolicy) -> Result<Self, PolicyError> {
        self.lease = Some(policy.checked()?);
        Ok(self)
    }

    /// The same behind another gate: one for each server, not for each cache on it.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }
}

impl<V> fmt::Debug for SecondLevel<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecondLevel")
            .field("store", &self.store)
            .field("framing", &self.framing)
            .field("bus", &self.bus)
            .field("staleness", &self.staleness)
            .finish_non_exhaustive()
    }
}

/// The second level of one cache.
pub(crate) struct Second<V> {
    store: Arc<dyn CacheStore>,
    framing: Framing<V>,
    gate: Gate,
    staleness: Duration,
    bus: Option<(Arc<dyn Bus>, LinePolicy)>,
    lease: Option<LeasePolicy>,
    /// In front of each key, and as the name of the space: no two names have a common key.
    space: Option<Key>,
    owed: Owed,
    /// The last that was seen. An older one is stricter, never laxer.
    stamp: Mutex<Option<Stamp>>,
    told: Told,
    is_down: AtomicBool,
    line: OnceLock<Line>,
    keeper: OnceLock<Keeper>,
}

/// Pays what was left, until the cache goes.
struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<V> Second<V> {
    pub(crate) fn new(of: SecondLevel<V>, told: Told) -> Self {
        let space = composite_key([told.name.as_bytes()]);
        Self {
            store: of.store,
            framing: of.framing,
            gate: of.gate,
            staleness: of.staleness,
            bus: of.bus,
            lease: of.lease,
            // A cache whose name is longer has no second level.
            space: Key::bounded(space, LONGEST_KEY).ok(),
            owed: Owed::new(MOST_DEBTS),
            stamp: Mutex::new(None),
            told,
            is_down: AtomicBool::new(false),
            line: OnceLock::new(),
            keeper: OnceLock::new(),
        }
    }

    /// Whether the first level may be served from, as far as others' changes go.
    #[inline]
    pub(crate) fn trusts_first(&self, now: Moment) -> bool {
        match self.line.get() {
            Some(line) => line.heard_within_at(self.staleness, now),
            None => true,
        }
    }

    /// Whether a flight that began at `begun` shows nothing that is too old: nobody may know that it was overtaken.
    pub(crate) fn may_join(&self, begun: Moment, now: Moment) -> bool {
        let hears = self.line.get().is_some() && self.trusts_first(now);
        hears || now.saturating_since(begun) <= self.staleness
    }

    pub(crate) fn heard_within(&self, within: Duration) -> bool {
        self.line
            .get()
            .is_some_and(|line| line.heard_within(within))
    }

    /// Without a bus, nobody says that an entry has changed: so it is looked at again soon.
    pub(crate) fn cap(&self, life: &mut Life, now: Moment) {
        if self.bus.is_none() {
            life.cap(now.saturating_add(self.staleness));
        }
    }

    pub(crate) const fn owed(&self) -> &Owed {
        &self.owed
    }

    /// The key as others know it; `None` for one that is too long for them.
    fn wire(&self, key: &[u8]) -> Option<Key> {
        let space = self.space.as_ref()?;
        Key::bounded([space.as_bytes(), key].concat(), LONGEST_KEY).ok()
    }

    fn remember(&self, stamp: Stamp) {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
    }

    fn remembered(&self) -> Option<Stamp> {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the store, if it is not left alone. What it fails with is told, once for each time that it goes away.
    async fn run<T, F>(&self, operation: impl FnOnce(Deadline) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let result = self.gate.run(operation).await;
        self.heard_of_store(result.as_ref().err());
        result.ok()
    }

    fn heard_of_store(&self, error: Option<&StoreError>) {
        let was_down = self.is_down.swap(error.is_some(), Ordering::Relaxed);
        match (was_down, error) {
            (false, Some(error)) => {
                let why = error.kind();
                self.told.tell(EventKind::SecondLevelFailed { why });
            }
            (true, None) => self.told.tell(EventKind::SecondLevelRecovered),
            _ => {}
        }
    }
}

impl<V: Clone + Send + Sync + 'static> Second<V> {
    /// Takes a place on the bus, and looks after what is left. Within a runtime.
    pub(crate) fn start(&self, core: &Arc<Core<V>>, clock: Clock) {
        let keeper = tokio::spawn(pay::keep(Arc::downgrade(core), self.owed.clone()));
        let _first = self.keeper.set(Keeper(keeper));
        if let (Some((bus, policy)), Some(space)) = (&self.bus, &self.space) {
            let core = Arc::downgrade(core);
            let ear = move |news: News| hear(&core, news);
            // The policy was checked when it was given.
            if let Ok(line) = Line::start(Arc::clone(bus), space.clone(), ear, *policy, clock) {
                let _first = self.line.set(line);
            }
        }
    }

    /// What the user calls it.
    fn own<'k>(&self, wire: &'k Key) -> Option<&'k [u8]> {
        wire.strip_prefix(self.space.as_ref()?.as_bytes())
    }
}

/// What others changed is changed here as well.
fn hear<V: Clone + Send + Sync + 'static>(core: &Weak<Core<V>>, news: News) {
    let Some(core) = core.upgrade() else {
        return;
    };
    let own = |key: &Key| {
        let second = core.second.as_ref()?;
        second.own(key).map(<[u8]>::to_vec)
    };
    match news {
        News::Changed(key) => {
            if let Some(key) = own(&key) {
                core.invalidate_local(&key);
            }
        }
        News::Expired(key) => {
            if let Some(key) = own(&key) {
                core.expire_local(&key);
            }
        }
        News::Marked { tag, .. } => {
            // What is no text is nobody's tag here.
            if let Ok(tag) = std::str::from_utf8(&tag) {
                core.invalidate_tag_local(tag);
            }
        }
        News::Cleared { .. } => core.clear_local(),
        News::Lost(why) => {
            core.told.tell(EventKind::NewsLost { why });
            core.clear_local();
        }
    }
}

impl<V> fmt::Debug for Second<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Second")
            .field("store", &self.store)
            .field("line", &self.line)
            .field("owed", &self.owed)
            .finish_non_exhaustive()
    }
}
