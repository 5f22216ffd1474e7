//! Where a limit is that several processes share.
//!
//! A store keeps, for each key, a few whole numbers ([`Slot`]), and changes them in one atomic step by the
//! clock of its server. What the numbers mean is not its business: [`Ask::decide`] says what becomes of
//! them. So a store of your own is a transaction around one function, and `testing::conformance` tells
//! whether it holds.

mod memory;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{Deadline, Key, Micros, StoreError};

pub use self::memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use self::mysql::MySqlStore;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
use crate::{
    Decision,
    machine::{self, Bucket, Cell, Plan, Rule},
};

/// Where a limit is that several processes share.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Decides in one atomic step: reads the slots of `key`, lets [`Ask::decide`] judge them by the
    /// server's clock, and writes what it says.
    ///
    /// Dropping the future may leave it done or not done; nothing is left half-done.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest.
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError>;

    /// Forgets a key: it has all its permits again.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest.
    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError>;

    /// Removes up to `most` keys that are idle; how many it were. Nothing to do for a store that
    /// forgets by itself.
    ///
    /// # Errors
    ///
    /// [`StoreError`], at the deadline at the latest.
    async fn prune(&self, most: u32, deadline: Deadline) -> Result<u64, StoreError>;
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        (**self).decide(key, ask, deadline).await
    }

    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError> {
        (**self).forget(key, deadline).await
    }

    async fn prune(&self, most: u32, deadline: Deadline) -> Result<u64, StoreError> {
        (**self).prune(most, deadline).await
    }
}

/// What a store keeps of one bandwidth of a key: four whole numbers, none of which is a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is what stores write and read"
)]
pub struct Slot {
    /// What the others are counted in; numbers of another quota are converted, or forgotten.
    pub unit: i64,
    /// When it was last changed.
    pub seen: i64,
    /// What is owed, or was counted.
    pub level: i64,
    /// What was counted before.
    pub before: i64,
}

/// What is asked of a store.
#[derive(Clone, Debug)]
pub struct Ask {
    plan: Arc<Plan>,
    what: What,
    permits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// As many as are there, up to the permits asked for, if at least so many are.
    Take {
        least: u64,
    },
    Peek,
    Force,
    GiveBack,
}

/// What a store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// How many permits were taken.
    pub granted: u64,
}

/// An answer, and what a store is to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decided {
    /// What to answer.
    pub answer: Answer,
    /// What to write; `None`: nothing changed.
    pub slots: Option<Vec<Slot>>,
    /// For how long: after that, the key equals one never seen.
    pub life: Duration,
}

impl Ask {
    pub(crate) const fn new(plan: Arc<Plan>, what: What, permits: u64) -> Self {
        Self {
            plan,
            what,
            permits,
        }
    }

    /// How many slots a key has.
    #[must_use]
    pub fn bandwidths(&self) -> usize {
        self.plan.rules().len()
    }

    /// Whether its answer may change something; if not, no lock is needed.
    #[must_use]
    pub const fn writes(&self) -> bool {
        !matches!(self.what, What::Peek)
    }

    /// What is answered at `now`, and what becomes of the slots: none for a key that is not there.
    #[must_use]
    pub fn decide(&self, held: &[Slot], now: Micros) -> Decided {
        let now = u64::try_from(now.get()).unwrap_or(0);
        let plan = &*self.plan;
        let mut cells = self.cells(held);
        let mut granted = 0;
        let ruling = match self.what {
            What::Peek => plan.look(&mut cells, now, self.permits),
            What::Force => {
                granted = self.permits;
                plan.force(&mut cells, now, self.permits)
            }
            What::GiveBack => {
                plan.give_back(&mut cells, now, self.permits);
                let mut ruling = plan.look(&mut cells, now, 0);
                ruling.allowed = ruling.look.wait == 0;
                ruling
            }
            What::Take { least } => {
                let free = plan.free(&mut cells, now);
                let wanted = self.permits.min(free).max(least);
                let ruling = plan.take(&mut cells, now, wanted, 0);
                granted = if ruling.allowed { wanted } else { 0 };
                ruling
            }
        };
        let slots = self.slots(&cells);
        // Another clock that is behind: from now on it is the one that counts, or nobody's debt would be
        // paid until it has caught up.
        let stepped = || {
            let mut both = slots.iter().zip(held);
            both.any(|(new, old)| new.unit == old.unit && new.seen < old.seen)
        };
        let writes = match self.what {
            What::Peek => false,
            What::Force | What::GiveBack => true,
            What::Take { .. } => granted > 0 || stepped(),
        };
        let life = Duration::from_micros(plan.left(&mut cells, now)) + Duration::from_secs(1);
        Decided {
            answer: Answer {
                decision: Decision::new(ruling, 1000),
                granted,
            },
            slots: writes.then_some(slots),
            life,
        }
    }

    /// What to answer, when a store decided by itself: `granted` permits were taken, and `held` is what
    /// it keeps since.
    #[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
    pub(crate) fn answer(&self, held: &[Slot], now: Micros, granted: u64) -> Answer {
        let now = u64::try_from(now.get()).unwrap_or(0);
        let mut cells = self.cells(held);
        let permits = match self.what {
            What::Take { least } if granted == 0 => least,
            What::Peek => self.permits,
            _ => 0,
        };
        let mut ruling = self.plan.look(&mut cells, now, permits);
        ruling.allowed = match self.what {
            What::Take { least } => granted > 0 || least == 0,
            What::Peek => ruling.allowed,
            What::Force | What::GiveBack => ruling.look.wait == 0,
        };
        Answer {
            decision: Decision::new(ruling, 1000),
            granted,
        }
    }

    #[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
    pub(crate) const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    #[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
    pub(crate) const fn what(&self) -> What {
        self.what
    }

    #[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
    pub(crate) const fn permits(&self) -> u64 {
        self.permits
    }

    fn cells(&self, held: &[Slot]) -> Box<[Cell]> {
        let rules = self.plan.rules().iter().enumerate();
        let cells = rules.map(|(at, rule)| {
            let slot = held.get(at).copied().unwrap_or_default();
            Cell::Slot(read(slot, rule))
        });
        cells.collect()
    }

    fn slots(&self, cells: &[Cell]) -> Vec<Slot> {
        let both = self.plan.rules().iter().zip(cells);
        let slots = both.map(|(rule, cell)| match cell {
            Cell::Slot(slot) => Slot {
                unit: unit(rule),
                seen: signed(slot.seen),
                level: signed(slot.level),
                before: signed(slot.before),
            },
            // A shared plan has no log.
            Cell::Log(_) => Slot::default(),
        });
        slots.collect()
    }
}

/// What the numbers of a slot are counted in: the cost of a permit; or the window, as a negative number.
pub(crate) fn unit(rule: &Rule) -> i64 {
    match rule {
        Rule::Bucket { bucket, .. } => signed(bucket.cost),
        Rule::Counter { counter, .. } | Rule::Log { counter } => -signed(counter.window),
    }
}

/// A slot in the units of `rule`: as many permits are used as were, by whatever quota wrote it.
fn read(slot: Slot, rule: &Rule) -> machine::Slot {
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    let mut read = machine::Slot {
        seen: whole(slot.seen),
        level: whole(slot.level),
        before: whole(slot.before),
    };
    let own = unit(rule);
    if slot.unit == own {
        return read;
    }
    match rule.as_bucket() {
        Some(bucket) if slot.unit > 0 => {
            read.level = converted(read.level, slot.unit, bucket);
            read.before = 0;
            read
        }
        // Of another algorithm or window: as if it had never been.
        _ => machine::Slot::default(),
    }
}

fn converted(level: u64, unit: i64, bucket: &Bucket) -> u64 {
    let scaled = u128::from(level) * u128::from(bucket.cost);
    let scaled = scaled.div_ceil(u128::from(unit.unsigned_abs()));
    u64::try_from(scaled)
        .unwrap_or(u64::MAX)
        .min(bucket.ceiling)
}

/// Shared plans keep all numbers below 2^53.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The slots beyond the first, as text: what a row has beside its columns.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod row {
    use super::Slot;

    /// A key's row: the first slot in columns, the others as numbers with spaces between.
    pub(super) type Row = (i64, i64, i64, i64, Option<String>);

    pub(super) fn slots(row: Option<&Row>) -> Vec<Slot> {
        let Some((unit, seen, level, before, others)) = row else {
            return Vec::new();
        };
        let first = Slot {
            unit: *unit,
            seen: *seen,
            level: *level,
            before: *before,
        };
        // What somebody else wrote there is no slot, and is passed over.
        let numbers: Vec<i64> = others
            .iter()
            .flat_map(|text| text.split(' '))
            .map_while(|number| number.parse().ok())
            .collect();
        let others = numbers.chunks_exact(4).map(|it| Slot {
            unit: it[0],
            seen: it[1],
            level: it[2],
            before: it[3],
        });
        std::iter::once(first).chain(others).collect()
    }

    pub(super) fn others(slots: &[Slot]) -> Option<String> {
        let others = slots.get(1..).filter(|others| !others.is_empty())?;
        let numbers: Vec<String> = others
            .iter()
            .flat_map(|slot| [slot.unit, slot.seen, slot.level, slot.before])
            .map(|number| number.to_string())
            .collect();
        Some(numbers.join(" "))
    }
}
