//! A limit for each key: a client, a tenant, a host.

mod builder;
mod line;
#[cfg(all(test, not(buttress_loom)))]
mod order;
mod sets;
mod state;
pub(crate) mod table;

use std::{
    borrow::{Borrow, Cow},
    fmt,
    hash::Hash,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Clock, Registered, Rejection};

pub use self::builder::KeyedRateLimiterBuilder;
use self::{
    line::Lines,
    sets::Sets,
    state::{Cells, Limited, Word},
    table::{Between, Table, Visit},
};
use crate::{
    Carry, Decision, EventKind, PolicyError, Quota,
    cell::{EARLY, Judged, ruling},
    machine::{Bucket, Plan, Ruling},
    told::Told,
};

/// So many per so long, for each key. Cheap to clone; clones are the same limiter.
///
/// Bounded: it holds as many keys as it is built for, and no more. A key whose permits are all there
/// again equals one never seen, so it is swept out when room is wanted, some ten thousand keys at a time
/// and without a task of its own. If all are in use, the eighth of them (of one shard) that would be
/// idle first are forgotten, so that one who is blocked cannot free himself by a flood of new keys; each
/// that is forgotten may get as much as it had used once more. [`forgotten`](Self::forgotten) counts them.
///
/// A key is looked up as it is borrowed (`&str` for `String`), and made owned only when it is new.
///
/// ```
/// use buttress_rate_limiter::{KeyedRateLimiter, Quota};
///
/// let clients = KeyedRateLimiter::<String>::new("clients", Quota::per_minute(1)?)?;
/// assert!(clients.check("alice").is_allowed());
/// assert!(!clients.check("alice").is_allowed());
/// assert!(clients.check("bob").is_allowed());
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
pub struct KeyedRateLimiter<K> {
    family: Arc<Family<K>>,
}

struct Family<K> {
    tables: Tables<K>,
    clock: Clock,
    told: Told,
    shadow: AtomicBool,
    lines: Lines<K>,
    quota: RwLock<Quota>,
}

enum Tables<K> {
    /// One bucket: a word for each key.
    Words(Table<K, Word>),
    /// Anything.
    Cells(Table<K, Cells>),
    /// One bucket, in memory of a fixed size.
    Sets(Sets),
}

/// Does the same to whichever table there is.
macro_rules! on_any {
    ($tables:expr, $table:ident => $act:expr) => {
        match $tables {
            Tables::Words($table) => $act,
            Tables::Cells($table) => $act,
            Tables::Sets($table) => $act,
        }
    };
}

impl<K: Hash + Eq> KeyedRateLimiter<K> {
    /// A limiter that gives each key this quota, for up to a million keys.
    ///
    /// # Errors
    ///
    /// A quota that cannot work; one that was built can.
    pub fn new(name: impl Into<Cow<'static, str>>, quota: Quota) -> Result<Self, PolicyError>
    where
        K: Send + Sync + 'static,
    {
        Self::builder(name, quota).build()
    }

    /// Chooses more than the quota.
    pub fn builder(name: impl Into<Cow<'static, str>>, quota: Quota) -> KeyedRateLimiterBuilder<K> {
        KeyedRateLimiterBuilder::new(name.into(), quota)
    }

    /// Takes one permit of `key` if it is there. Never waits.
    #[inline]
    pub fn check<Q>(&self, key: &Q) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.check_n(key, 1)
    }

    /// Takes so many permits of `key` if all are there, else none.
    #[inline]
    pub fn check_n<Q>(&self, key: &Q, permits: u64) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let family = &*self.family;
        let between = || {
            let (earliest, latest) = family.clock.bounds();
            (earliest.as_nanos(), latest.as_nanos())
        };
        let judge = |bucket: &Arc<Bucket>, word: &mut Word, at: &mut Between| {
            let (judged, owed, wait) = word.judge(bucket, at, || self.again(), permits);
            (judged, owed, wait, bucket.cost, bucket.most, bucket.gain)
        };
        let visit = match &family.tables {
            Tables::Words(table) => table.visit(key, between, judge),
            Tables::Sets(sets) => sets.visit(key, between, |bucket, word, at| {
                let first = judge(bucket, word, at);
                if first.0 != Judged::Refused || first.2 > EARLY.saturating_mul(bucket.gain) {
                    return first;
                }
                let now = self.again();
                *at = (now, now);
                judge(bucket, word, at)
            }),
            Tables::Cells(_) => return self.slow(key, permits),
        };
        let (judged, owed, wait, cost, most, gain) = visit.result;
        if judged == Judged::Elsewhere {
            return self.slow(key, permits);
        }
        let allowed = judged == Judged::Allowed;
        let silent = visit.forgotten == 0 && family.told.is_silent_of(allowed);
        if silent && (allowed || !family.shadow.load(Relaxed)) {
            return Decision::new(ruling(allowed, cost, most, gain, owed, wait), 1);
        }
        let result = ruling(allowed, cost, most, gain, owed, wait);
        self.told_of(result, visit.forgotten, permits)
    }

    /// What [`check_n`](Self::check_n) would say, without taking or keeping anything.
    pub fn peek_n<Q>(&self, key: &Q, permits: u64) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let ruling = on_any!(&self.family.tables, table =>
            table.peek(key, || self.now(), |rules, state, now| state.look(rules, now, permits)));
        Decision::new(ruling, 1)
    }

    /// Takes permits of `key`, whether they are there or not: debt.
    pub fn force<Q>(&self, key: &Q, permits: u64) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let visit = on_any!(&self.family.tables, table =>
            table.visit(key, || self.between(), |rules, state, at| state.force(rules, at.0, permits)));
        Decision::new(self.visited(visit), 1)
    }

    /// Gives permits of `key` back that were taken and not used.
    pub fn give_back<Q>(&self, key: &Q, permits: u64)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        on_any!(&self.family.tables, table =>
            table.peek(key, || self.now(), |rules, state, now| state.give_back(rules, now, permits)));
        self.family.lines.wake(key);
    }

    /// Waits for so many permits of `key`, in the line of that key, and no longer than `patience`.
    /// Who came first is served first; as many may wait, over all keys, as the builder says (1024). Who
    /// finds his permits there, and nobody in the line of his key, needs no place in one.
    ///
    /// Dropping the future leaves the line; no permit is lost.
    ///
    /// # Errors
    ///
    /// [`Rejection`], when too many wait, it takes too long, or there can never be so many at once.
    pub async fn until_ready_within<Q>(
        &self,
        key: &Q,
        permits: u64,
        patience: Duration,
    ) -> Result<Decision, Rejection>
    where
        K: Borrow<Q> + Clone,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let family = &*self.family;
        let ask = || {
            let ruling = self.take(key, permits);
            let decision = Decision::new(ruling, 1);
            let shadow = family.shadow.load(Relaxed);
            if ruling.allowed || shadow {
                return family.told.decided(decision, permits, shadow);
            }
            decision
        };
        // Whoever waits for another key, and however many they are.
        if family.lines.is_free(key) {
            let decision = ask();
            if decision.is_allowed() {
                return Ok(decision);
            }
        }
        let Some(line) = family.lines.of(key.to_owned()) else {
            return Err(family
                .told
                .turned_away(self.peek_n(key, permits).retry_after()));
        };
        let flow = |all| self.flow(key, all);
        line.queue()
            .wait(&family.told, permits, patience, ask, flow)
            .await
    }

    /// Goes on by another quota, with what is left of each key as `carry` says. Keys are changed some
    /// ten thousand at a time, while calls go on. Who waits in line waits by the new one.
    ///
    /// # Errors
    ///
    /// A quota that cannot work, or whose state does not fit: a limiter that was built with one bucket
    /// or fixed window keeps a word for each key, and takes only another of these; one of
    /// [`fixed_memory`](KeyedRateLimiterBuilder::fixed_memory) takes none. The old one holds.
    pub fn set_quota(&self, quota: Quota, carry: Carry) -> Result<(), PolicyError> {
        let plan = Plan::in_process(&quota)?;
        let family = &*self.family;
        {
            let mut held = family.quota.write().unwrap_or_else(PoisonError::into_inner);
            let now = || self.now();
            match (&family.tables, plan.single_bucket()) {
                (Tables::Words(table), Some(bucket)) => {
                    change(table, now, &Arc::new(*bucket), carry);
                }
                (Tables::Words(_), None) => {
                    let range = "one bucket or fixed window, as it was built with";
                    return Err(PolicyError::new("quota", range));
                }
                (Tables::Cells(table), _) => change(table, now, &Arc::new(plan), carry),
                (Tables::Sets(_), _) => {
                    let range = "the one it was built with, for its memory is fixed";
                    return Err(PolicyError::new("quota", range));
                }
            }
            *held = quota;
        }
        family.lines.wake_all();
        family.told.tell(EventKind::QuotaChanged);
        Ok(())
    }

    /// The quota it goes by now.
    #[must_use]
    pub fn quota(&self) -> Quota {
        let held = self.family.quota.read();
        held.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In shadow it decides, tells its observers what it would refuse, and lets everything through.
    pub fn set_shadow(&self, shadow: bool) {
        self.family.shadow.store(shadow, Relaxed);
        self.family.lines.wake_all();
    }

    /// Forgets what is known of `key`: it has all its permits again.
    pub fn reset<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        on_any!(&self.family.tables, table => table.remove(key));
        self.family.lines.wake(key);
    }

    /// Sweeps out idle keys and gives their memory back, if it is not fixed. Never needed; for quiet
    /// hours.
    pub fn sweep(&self) {
        let now = self.now();
        on_any!(&self.family.tables, table => table.sweep(now));
    }

    /// How many keys are held, idle ones that are not swept out yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.family.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys were forgotten so far that were not idle, because all places were taken.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        on_any!(&self.family.tables, table => table.forgotten())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.family.told.name
    }

    #[cold]
    #[inline(never)]
    fn slow<Q>(&self, key: &Q, permits: u64) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let ruling = self.take(key, permits);
        self.decided(ruling, permits)
    }

    #[cold]
    #[inline(never)]
    fn told_of(&self, result: Ruling, forgotten: u64, permits: u64) -> Decision {
        let ruling = self.visited(Visit { result, forgotten });
        self.decided(ruling, permits)
    }

    fn decided(&self, ruling: Ruling, permits: u64) -> Decision {
        let family = &*self.family;
        let shadow = !ruling.allowed && family.shadow.load(Relaxed);
        let decision = Decision::new(ruling, 1);
        family.told.decided(decision, permits, shadow)
    }

    fn take<Q>(&self, key: &Q, permits: u64) -> Ruling
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let visit = on_any!(&self.family.tables, table =>
        table.visit(key, || self.between(), |rules, state, at| {
            let ruling = state.take(rules, at.0, permits);
            if ruling.allowed || ruling.look.wait_ticks() > EARLY {
                return ruling;
            }
            *at = (self.again().max(at.0), at.1);
            state.take(rules, at.0, permits)
        }));
        self.visited(visit)
    }

    /// Without a word to observers: another handle tells.
    pub(crate) fn take_quietly<Q>(&self, key: &Q, permits: u64) -> Decision
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        Decision::new(self.take(key, permits), 1)
    }

    fn flow<Q>(&self, key: &Q, permits: u64) -> Duration
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let ticks = on_any!(&self.family.tables, table =>
            table.peek(key, || self.now(), |rules, state, now| state.flow(rules, now, permits)));
        Duration::from_nanos(ticks)
    }

    #[inline]
    fn visited(&self, visit: Visit<Ruling>) -> Ruling {
        if visit.forgotten > 0 {
            let keys = visit.forgotten;
            self.family.told.tell(EventKind::KeysForgotten { keys });
        }
        visit.result
    }

    #[inline]
    fn now(&self) -> u64 {
        self.family.clock.now().as_nanos()
    }

    fn between(&self) -> Between {
        let now = self.now();
        (now, now)
    }

    /// The second look: in order, and off the path of those who need only one.
    #[cold]
    #[inline(never)]
    fn again(&self) -> u64 {
        self.family.clock.now_in_order().as_nanos()
    }
}

fn change<K: Hash + Eq, S: Limited>(
    table: &Table<K, S>,
    now: impl Fn() -> u64,
    to: &S::Rules,
    carry: Carry,
) {
    table.change(|rules, states| {
        let now = now();
        for state in states {
            state.carry(rules, now, to, carry);
        }
        *rules = to.clone();
    });
}

impl<K> Clone for KeyedRateLimiter<K> {
    fn clone(&self) -> Self {
        Self {
            family: Arc::clone(&self.family),
        }
    }
}

impl<K> fmt::Debug for KeyedRateLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimiter")
            .field("name", &self.family.told.name)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq> Family<K> {
    fn len(&self) -> usize {
        on_any!(&self.tables, table => table.len())
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Registered for Family<K> {
    fn pattern(&self) -> &'static str {
        "rate_limiter"
    }

    fn name(&self) -> &str {
        &self.told.name
    }

    fn state(&self) -> &'static str {
        "keyed"
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let forgotten = on_any!(&self.tables, table => table.forgotten());
        each("buttress_rate_limiter_keys", self.len() as u64);
        each("buttress_rate_limiter_keys_forgotten", forgotten);
        each("buttress_rate_limiter_waiting", self.lines.waiting() as u64);
    }
}
