//! A limit that several processes share, over a store.

mod builder;
mod lease;
mod pruner;

use std::{
    borrow::Cow,
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use buttress_core::{Clock, Registered};
use buttress_store::{Gate, Key, StoreError};

use self::lease::Leases;
pub use self::{builder::SharedRateLimiterBuilder, pruner::Pruner};
use crate::{
    Decision, EventKind, KeyedRateLimiter, PolicyError, Quota, SharedError,
    machine::Plan,
    store::{Answer, Ask, Store, What},
    told::Told,
};

/// What is done while the store cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenDown {
    /// Goes on with a limiter of the same quota in this process. It begins with full bursts: each instance
    /// may give out a whole quota by itself.
    #[default]
    Local,
    /// The same, with one of so many shares of the quota: so all instances together give out no more than
    /// the quota, though none knows of the others. How many there are is the caller's to know. A share
    /// has one permit at least: together they may give out as many at once as there are instances. A key
    /// whose calls all come to one instance has that one's share alone.
    Share(NonZeroU32),
    /// Lets everything through.
    Open,
    /// Refuses everything, as unavailable.
    Closed,
}

impl WhenDown {
    /// How much of the quota this process gives out by itself, as one of how many; `None`, if nothing is
    /// counted here.
    const fn share(self) -> Option<NonZeroU32> {
        match self {
            Self::Local => Some(NonZeroU32::MIN),
            Self::Share(instances) => Some(instances),
            Self::Open | Self::Closed => None,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Share(_) => "share",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// So many per so long, for each key, over all processes that share a store. Cheap to clone; clones are
/// the same limiter.
///
/// Each decision is one atomic step in the store, by the store's clock. It takes no longer than the
/// deadline (500 ms); once a deadline struck, the store is left alone for a second, doubling to thirty, and
/// what is done meanwhile is [`WhenDown`]'s. It is asked again by itself.
///
/// With leases ([`SharedRateLimiterBuilder::lease`]) an instance takes a slice of permits at once and gives
/// them out without asking.
///
/// ```
/// use buttress_rate_limiter::{Quota, SharedRateLimiter, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new(); // or RedisStore, PostgresStore, MySqlStore, SqliteStore
/// let orders = SharedRateLimiter::new("orders", Quota::per_minute(1)?, store)?;
/// assert!(orders.check("alice").await?.is_allowed());
/// assert!(!orders.check("alice").await?.is_allowed());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedRateLimiter {
    core: Arc<Core>,
}

struct Core {
    store: Arc<dyn Store>,
    gate: Gate,
    plan: RwLock<(Arc<Plan>, Quota)>,
    /// What goes on while the store is down.
    local: Option<KeyedRateLimiter<Vec<u8>>>,
    when_down: WhenDown,
    leases: Option<Leases>,
    told: Told,
    shadow: AtomicBool,
    down: AtomicBool,
    longest_key: usize,
    /// Before each key in the store.
    prefix: Vec<u8>,
    clock: Clock,
}

impl SharedRateLimiter {
    /// A limiter that gives each key this quota, in this store.
    ///
    /// # Errors
    ///
    /// A quota that cannot work in a store: see [`SharedRateLimiterBuilder::build`].
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        quota: Quota,
        store: impl Store + 'static,
    ) -> Result<Self, PolicyError> {
        Self::builder(name, quota, store).build()
    }

    /// Chooses more than the quota.
    pub fn builder(
        name: impl Into<Cow<'static, str>>,
        quota: Quota,
        store: impl Store + 'static,
    ) -> SharedRateLimiterBuilder {
        SharedRateLimiterBuilder::new(name.into(), quota, Arc::new(store))
    }

    /// Takes one permit of `key` if it is there.
    ///
    /// Dropping the future may leave the permit taken.
    ///
    /// # Errors
    ///
    /// [`SharedError`]: a key that is none, or the store is down and the policy is to refuse.
    pub async fn check(&self, key: impl AsRef<[u8]> + Send) -> Result<Decision, SharedError> {
        self.check_n(key, 1).await
    }

    /// Takes so many permits of `key` if all are there, else none.
    ///
    /// Dropping the future may leave the permits taken.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn check_n(
        &self,
        key: impl AsRef<[u8]> + Send,
        permits: u64,
    ) -> Result<Decision, SharedError> {
        let core = &*self.core;
        let own = key.as_ref();
        if let Some(leases) = &core.leases
            && let Some(decision) = leases.held(own, permits, &core.clock)
        {
            return Ok(core.decided(decision, permits));
        }
        let key = core.key(own)?;
        let plan = core.plan();
        let decision = if permits == 0 {
            core.ask(&key, plan, What::Peek, 0).await?.decision
        } else if permits > plan.most() {
            // It can never be had: no need to ask for more than what is there.
            let now = core.ask(&key, plan, What::Peek, 0).await?.decision;
            now.never()
        } else if let Some(leases) = &core.leases {
            let ask = |least, wanted| {
                let plan = Arc::clone(&plan);
                let key = &key;
                async move { core.ask(key, plan, What::Take { least }, wanted).await }
            };
            leases.take(own, permits, &core.clock, ask).await?
        } else {
            let what = What::Take { least: permits };
            core.ask(&key, plan, what, permits).await?.decision
        };
        Ok(core.decided(decision, permits))
    }

    /// What [`check_n`](Self::check_n) would say, without taking anything. What is leased counts as taken.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn peek_n(
        &self,
        key: impl AsRef<[u8]> + Send,
        permits: u64,
    ) -> Result<Decision, SharedError> {
        let key = self.core.key(key)?;
        let plan = self.core.plan();
        if permits > plan.most() {
            let now = self.core.ask(&key, plan, What::Peek, 0).await?.decision;
            return Ok(now.never());
        }
        let answer = self.core.ask(&key, plan, What::Peek, permits).await?;
        Ok(answer.decision)
    }

    /// Takes permits of `key`, whether they are there or not: debt.
    ///
    /// Dropping the future may leave them taken or not.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn force(
        &self,
        key: impl AsRef<[u8]> + Send,
        permits: u64,
    ) -> Result<Decision, SharedError> {
        let key = self.core.key(key)?;
        let plan = self.core.plan();
        let answer = self.core.ask(&key, plan, What::Force, permits).await?;
        Ok(answer.decision)
    }

    /// Gives permits of `key` back that were taken and not used.
    ///
    /// Dropping the future may leave them given back or not.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn give_back(
        &self,
        key: impl AsRef<[u8]> + Send,
        permits: u64,
    ) -> Result<(), SharedError> {
        let key = self.core.key(key)?;
        let plan = self.core.plan();
        self.core.ask(&key, plan, What::GiveBack, permits).await?;
        Ok(())
    }

    /// Forgets what is known of `key`, in the store and here: it has all its permits again.
    ///
    /// # Errors
    ///
    /// [`SharedError`], when the store does not answer.
    pub async fn reset(&self, key: impl AsRef<[u8]> + Send) -> Result<(), SharedError> {
        let core = &*self.core;
        let own = key.as_ref();
        let key = core.key(own)?;
        if let Some(leases) = &core.leases {
            leases.forget(own);
        }
        if let Some(local) = &core.local {
            local.reset(&key[..]);
        }
        let forget = core.gate.run(|deadline| core.store.forget(&key, deadline));
        forget.await.map_err(SharedError::Store)
    }

    /// Removes up to `most` idle keys from a store that does not forget by itself (PostgreSQL, MySQL,
    /// SQLite). To be called now and then, by one instance or by all; [`pruner`](Self::pruner) does. How many
    /// it were.
    ///
    /// # Errors
    ///
    /// [`SharedError`], when the store does not answer.
    pub async fn prune(&self, most: u32) -> Result<u64, SharedError> {
        let core = &*self.core;
        let prune = core.gate.run(|deadline| core.store.prune(most, deadline));
        prune.await.map_err(SharedError::Store)
    }

    /// Goes on by another quota. What was used stays used, in permits: a store's numbers are converted
    /// when they are next read, by each instance that has the new quota. Of another algorithm, or another
    /// sliding window, a key begins anew.
    ///
    /// # Errors
    ///
    /// A quota that cannot work in a store, or that the limiter which goes on while the store is down cannot
    /// change to: see [`KeyedRateLimiter::set_quota`]. The old one holds then.
    pub fn set_quota(&self, quota: Quota) -> Result<(), PolicyError> {
        let plan = Arc::new(Plan::shared(&quota)?);
        let share = self.core.when_down.share();
        if let (Some(local), Some(instances)) = (&self.core.local, share) {
            local.set_quota(quota.shared_by(instances)?, crate::Carry::AsItIs)?;
        }
        {
            let held = self.core.plan.write();
            *held.unwrap_or_else(PoisonError::into_inner) = (plan, quota);
        }
        self.core.told.tell(EventKind::QuotaChanged);
        Ok(())
    }

    /// The quota it goes by now.
    #[must_use]
    pub fn quota(&self) -> Quota {
        let held = self.core.plan.read();
        held.unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// In shadow it decides, tells its observers what it would refuse, and lets everything through.
    pub fn set_shadow(&self, shadow: bool) {
        self.core.shadow.store(shadow, Relaxed);
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.told.name
    }

    /// Whether the last question to the store went without an answer.
    #[must_use]
    pub fn is_store_down(&self) -> bool {
        self.core.down.load(Relaxed)
    }
}

impl Core {
    fn plan(&self) -> Arc<Plan> {
        let held = self.plan.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&held.0)
    }

    /// The key in the store: two limiters on one store have nothing in common.
    fn key(&self, key: impl AsRef<[u8]>) -> Result<Key, SharedError> {
        let checked = Key::bounded(key, self.longest_key)?;
        Ok(Key::new([&self.prefix[..], &checked[..]].concat())?)
    }

    /// Tells of a decision, and gives what the caller is told.
    fn decided(&self, decision: Decision, permits: u64) -> Decision {
        let shadow = !decision.is_allowed() && self.shadow.load(Relaxed);
        self.told.decided(decision, permits, shadow)
    }

    /// Asks the store; while it is down, does what the policy says.
    async fn ask(
        &self,
        key: &Key,
        plan: Arc<Plan>,
        what: What,
        permits: u64,
    ) -> Result<Answer, SharedError> {
        let limit = plan.most();
        let ask = Ask::new(plan, what, permits);
        let decide = self
            .gate
            .run(|deadline| self.store.decide(key, &ask, deadline));
        match decide.await {
            Ok(answer) => {
                if self.down.load(Relaxed) && self.down.swap(false, Relaxed) {
                    self.told.tell(EventKind::StoreRecovered);
                }
                Ok(answer)
            }
            Err(error) => self.without_store(error, key, what, permits, limit),
        }
    }

    #[cold]
    fn without_store(
        &self,
        error: StoreError,
        key: &Key,
        what: What,
        permits: u64,
        limit: u64,
    ) -> Result<Answer, SharedError> {
        if !self.down.swap(true, Relaxed) {
            let instead = self.when_down.as_str();
            tracing::warn!(name = %self.told.name, %error, "a rate limiter's store failed");
            self.told.tell(EventKind::StoreFailed { instead });
        }
        // One that may be down for long gives out no slices: each permit is asked for by itself.
        let wanted = match what {
            What::Take { least } => least,
            _ => permits,
        };
        let decision = match (self.when_down, &self.local) {
            (WhenDown::Local | WhenDown::Share(_), Some(local)) => match what {
                What::Take { .. } => local.take_quietly(&key[..], wanted),
                What::Peek => local.peek_n(&key[..], wanted),
                What::Force => local.force(&key[..], wanted),
                What::GiveBack => {
                    local.give_back(&key[..], wanted);
                    local.peek_n(&key[..], 0)
                }
            },
            (WhenDown::Closed, _) => return Err(SharedError::Store(error)),
            _ => Decision::open(limit),
        };
        let granted = if decision.is_allowed() { wanted } else { 0 };
        Ok(Answer { decision, granted })
    }
}

impl fmt::Debug for SharedRateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRateLimiter")
            .field("name", &self.name())
            .field("store", &self.core.store)
            .field("down", &self.is_store_down())
            .finish_non_exhaustive()
    }
}

impl Registered for Core {
    fn pattern(&self) -> &'static str {
        "rate_limiter"
    }

    fn name(&self) -> &str {
        &self.told.name
    }

    fn state(&self) -> &'static str {
        match (self.down.load(Relaxed), self.when_down) {
            (false, _) => "shared",
            (true, when_down) => when_down.as_str(),
        }
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let down = u64::from(self.down.load(Relaxed));
        each("buttress_rate_limiter_store_down", down);
    }
}
