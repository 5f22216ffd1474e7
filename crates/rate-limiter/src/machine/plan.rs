//! One decision over all bandwidths of a quota: it takes from all, or from none.

use super::{Bucket, Counter, Log, Slot};
use crate::{Algorithm, Bandwidth, PolicyError, Quota};

/// A wait that never ends: more is asked for than there can ever be.
pub(crate) const NEVER: u64 = u64::MAX;

/// How many nanoseconds a tick has: one in process, a thousand in stores.
pub(crate) type TickNanos = u64;

/// One bandwidth, in the units of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A token bucket, refilled in steps: GCRA, by interval, a fixed window.
    Bucket { bucket: Bucket, step: u64 },
    /// A sliding window counter.
    Counter { counter: Counter, step: u64 },
    /// A sliding window log.
    Log { counter: Counter },
}

/// The state of one bandwidth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Slot(Slot),
    Log(Log),
}

/// What one bandwidth says: permits in units of which one has `cost`, times in units of which a tick has
/// `gain`. Nothing is divided before somebody asks, for most never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) cost: u64,
    pub(crate) limit: u64,
    pub(crate) free: u64,
    pub(crate) gain: u64,
    /// Zero, if it allows; [`NEVER`], if it never can.
    pub(crate) wait: u64,
    pub(crate) reset: u64,
}

impl Look {
    /// After how many ticks it allows.
    pub(crate) const fn wait_ticks(&self) -> u64 {
        match self.wait {
            NEVER => NEVER,
            wait => wait.div_ceil(self.gain),
        }
    }

    /// After how many ticks nothing is used of it.
    pub(crate) const fn reset_ticks(&self) -> u64 {
        self.reset.div_ceil(self.gain)
    }

    /// The same with another wait, in ticks.
    pub(crate) const fn waiting(mut self, ticks: u64) -> Self {
        self.wait = ticks.saturating_mul(self.gain);
        self
    }

    /// The same `lag` ticks later: the clock is behind what was seen.
    const fn later(mut self, lag: u64) -> Self {
        let lag = lag.saturating_mul(self.gain);
        if self.wait != 0 && self.wait != NEVER {
            self.wait = self.wait.saturating_add(lag);
        }
        if self.reset != 0 {
            self.reset = self.reset.saturating_add(lag);
        }
        self
    }

    const NOTHING: Self = Self {
        cost: 1,
        limit: 0,
        free: 0,
        gain: 1,
        wait: NEVER,
        reset: 0,
    };
}

/// What all of them say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub(crate) allowed: bool,
    /// Which one decided: that with the longest wait, or with the fewest left.
    pub(crate) by: usize,
    pub(crate) look: Look,
}

/// The bandwidths of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    rules: Box<[Rule]>,
}

impl Rule {
    /// In process: a tick is a nanosecond, and the clock never goes back.
    pub(crate) fn in_process(bandwidth: &Bandwidth) -> Result<Self, PolicyError> {
        let period = bandwidth.period().as_nanos();
        let period = u64::try_from(period).unwrap_or(u64::MAX);
        // Finer than a thirty-second of a nanosecond, the counter of time would end within 18 years.
        Self::new(bandwidth, period, 32, 1 << 62)
    }

    /// In a store: a tick is a microsecond, numbers fit a double (Redis' Lua has no other), and a
    /// clock may be exchanged for one that is behind.
    pub(crate) fn shared(bandwidth: &Bandwidth) -> Result<Self, PolicyError> {
        let nanos = bandwidth.period().as_nanos();
        if !nanos.is_multiple_of(1000) {
            return Err(PolicyError::new("period", "whole microseconds in a store"));
        }
        let period = u64::try_from(nanos / 1000).unwrap_or(u64::MAX);
        if bandwidth.most() > 1 << 40 {
            return Err(PolicyError::new("burst", "at most 2^40 in a store"));
        }
        let mut rule = Self::new(bandwidth, period, 1 << 20, 1 << 52)?;
        match &mut rule {
            Self::Bucket { bucket, step } => *step = bucket.full_ticks(),
            Self::Counter { counter, step } => {
                let products = u128::from(counter.permits) * u128::from(counter.window);
                if products > 1 << 52 {
                    let range =
                        "at most 2^52 / period in microseconds, for a sliding window in a store";
                    return Err(PolicyError::new("permits", range));
                }
                *step = 1;
            }
            Self::Log { .. } => {
                return Err(PolicyError::new("algorithm", "other than a log in a store"));
            }
        }
        Ok(rule)
    }

    fn new(
        bandwidth: &Bandwidth,
        period: u64,
        finest: u64,
        largest: u64,
    ) -> Result<Self, PolicyError> {
        let permits = bandwidth.permits();
        let counter = Counter {
            window: period,
            permits,
        };
        let step = u64::MAX;
        Ok(match bandwidth.counted_by() {
            Algorithm::TokenBucket => {
                let bucket = Bucket::greedy(permits, period, bandwidth.most(), finest, largest)
                    .ok_or(PolicyError::new("burst", "refilled within 100 years"))?;
                Self::Bucket { bucket, step }
            }
            Algorithm::Interval | Algorithm::FixedWindow => {
                let most = bandwidth.most();
                let steps = u128::from(most.div_ceil(permits));
                if steps * u128::from(period) > u128::from(largest) {
                    return Err(PolicyError::new("burst", "refilled within 100 years"));
                }
                let bucket = Bucket::stepwise(permits, period, most, largest);
                Self::Bucket { bucket, step }
            }
            Algorithm::SlidingWindow => Self::Counter { counter, step },
            Algorithm::SlidingLog => Self::Log { counter },
        })
    }

    /// The state of a key that was never seen.
    pub(crate) fn fresh(&self) -> Cell {
        match self {
            Self::Log { .. } => Cell::Log(Log::default()),
            _ => Cell::Slot(Slot::default()),
        }
    }

    pub(crate) const fn as_bucket(&self) -> Option<&Bucket> {
        match self {
            Self::Bucket { bucket, .. } => Some(bucket),
            _ => None,
        }
    }

    /// What it says to one who wants `permits`.
    pub(super) fn look(&self, cell: &mut Cell, now: u64, permits: u64) -> Look {
        match (self, cell) {
            (Self::Bucket { bucket, step }, Cell::Slot(slot)) => {
                *slot = slot.owed(bucket, now, *step);
                let look = bucket.look(slot.level, slot.seen, permits);
                look.later(slot.seen - now)
            }
            (Self::Counter { counter, step }, Cell::Slot(slot)) => {
                *slot = slot.rolled(now / counter.window, *step);
                let start = slot.seen.saturating_mul(counter.window);
                let elapsed = now.saturating_sub(start);
                let (level, before) = (slot.level, slot.before);
                let wait = if permits > counter.permits {
                    NEVER
                } else {
                    counter.wait(level, before, elapsed, permits)
                };
                let look = Look {
                    cost: 1,
                    limit: counter.permits,
                    free: counter.free(level, before, elapsed),
                    gain: 1,
                    wait,
                    reset: counter.reset(level, before, elapsed),
                };
                look.later(start.saturating_sub(now))
            }
            (Self::Log { counter }, Cell::Log(log)) => {
                log.at(now, counter.window);
                let free = counter.permits.saturating_sub(log.total());
                let wait = if permits > counter.permits {
                    NEVER
                } else {
                    let excess = permits.saturating_sub(free);
                    log.frees(excess, now, counter.window) - now
                };
                Look {
                    cost: 1,
                    limit: counter.permits,
                    free,
                    gain: 1,
                    wait,
                    reset: log.ends(counter.window).saturating_sub(now),
                }
            }
            // A cell is made by its rule's `fresh` or `carry`.
            _ => Look::NOTHING,
        }
    }

    /// Takes `permits`, however many are left, to be used `wait` ticks after now. After a look.
    pub(super) fn take(&self, cell: &mut Cell, now: u64, permits: u64, wait: u64) {
        match (self, cell) {
            (Self::Bucket { bucket, .. }, Cell::Slot(slot)) => {
                let then = slot.seen.saturating_add(wait);
                let until = bucket.paid_between(slot.seen, then);
                let owed = slot.level.max(if wait == 0 { 0 } else { until });
                let owed = owed.saturating_add(bucket.price_or_all(permits));
                slot.level = owed.min(bucket.ceiling);
            }
            (Self::Counter { .. }, Cell::Slot(slot)) => {
                slot.level = slot.level.saturating_add(permits).min(1 << 52);
            }
            (Self::Log { counter }, Cell::Log(log)) => {
                let at = log.at(now, counter.window);
                log.take(at, permits);
            }
            _ => {}
        }
    }

    /// Gives `permits` back: never more than were taken and are not yet forgotten. After a look.
    fn give_back(&self, cell: &mut Cell, permits: u64) {
        match (self, cell) {
            (Self::Bucket { bucket, .. }, Cell::Slot(slot)) => {
                slot.level = slot.level.saturating_sub(bucket.price_or_all(permits));
            }
            (Self::Counter { .. }, Cell::Slot(slot)) => {
                slot.level = slot.level.saturating_sub(permits);
            }
            (Self::Log { .. }, Cell::Log(log)) => log.give_back(permits),
            _ => {}
        }
    }
}

impl Plan {
    pub(crate) fn new(rules: Box<[Rule]>) -> Self {
        Self { rules }
    }

    /// One token bucket.
    pub(crate) fn of_bucket(bucket: Bucket) -> Self {
        let step = u64::MAX;
        Self::new(Box::new([Rule::Bucket { bucket, step }]))
    }

    /// In process.
    pub(crate) fn in_process(quota: &Quota) -> Result<Self, PolicyError> {
        let rules = quota.bandwidths().iter().map(Rule::in_process);
        Ok(Self::new(rules.collect::<Result<_, _>>()?))
    }

    /// In a store.
    pub(crate) fn shared(quota: &Quota) -> Result<Self, PolicyError> {
        let rules = quota.bandwidths().iter().map(Rule::shared);
        Ok(Self::new(rules.collect::<Result<_, _>>()?))
    }

    pub(crate) const fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The only bandwidth, if it is a bucket: its state is one word.
    pub(crate) const fn single_bucket(&self) -> Option<&Bucket> {
        match &*self.rules {
            [Rule::Bucket { bucket, .. }] => Some(bucket),
            _ => None,
        }
    }

    pub(crate) fn fresh(&self) -> Box<[Cell]> {
        self.rules.iter().map(Rule::fresh).collect()
    }

    /// What all say to one who wants `permits`; nothing is taken.
    pub(crate) fn look(&self, cells: &mut [Cell], now: u64, permits: u64) -> Ruling {
        let mut ruling: Option<Ruling> = None;
        for (by, (rule, cell)) in self.rules.iter().zip(cells).enumerate() {
            let look = rule.look(cell, now, permits);
            let next = Ruling {
                // Nothing is always to be had: that is how one looks.
                allowed: look.wait == 0 || permits == 0,
                by,
                look,
            };
            ruling = Some(ruling.map_or(next, |held| held.stricter(next)));
        }
        // A plan has at least one rule.
        ruling.unwrap_or(Ruling::nothing())
    }

    /// Takes `permits` if all allow, or if all would within `patience` ticks: then the wait is what
    /// the ruling says, and the permits are taken already.
    pub(crate) fn take(&self, cells: &mut [Cell], now: u64, permits: u64, patience: u64) -> Ruling {
        let ruling = self.look(cells, now, permits);
        let wait = ruling.look.wait_ticks();
        if permits == 0 {
            return ruling;
        }
        // What has not flowed in yet can be owed by buckets alone.
        let can_owe = || self.rules.iter().all(|rule| rule.as_bucket().is_some());
        if wait == 0 || (wait <= patience && wait != NEVER && can_owe()) {
            for (rule, cell) in self.rules.iter().zip(&mut *cells) {
                rule.take(cell, now, permits, wait);
            }
            let mut after = self.look(cells, now, 0);
            after.allowed = true;
            after.look = after.look.waiting(wait);
            return after;
        }
        ruling
    }

    /// How many there are now, in each bandwidth.
    pub(crate) fn free(&self, cells: &mut [Cell], now: u64) -> u64 {
        let each = self.rules.iter().zip(cells);
        let each = each.map(|(rule, cell)| {
            let look = rule.look(cell, now, 0);
            look.free / look.cost
        });
        each.min().unwrap_or(0)
    }

    /// The most that can be had at once.
    pub(crate) fn most(&self) -> u64 {
        let each = self.rules.iter().map(|rule| match rule {
            Rule::Bucket { bucket, .. } => bucket.most / bucket.cost,
            Rule::Counter { counter, .. } | Rule::Log { counter } => counter.permits,
        });
        each.min().unwrap_or(0)
    }

    /// Takes `permits`, whether all allow or not. The ruling's wait is the penalty: when nothing is
    /// owed beyond the burst.
    pub(crate) fn force(&self, cells: &mut [Cell], now: u64, permits: u64) -> Ruling {
        self.look(cells, now, 0);
        for (rule, cell) in self.rules.iter().zip(&mut *cells) {
            rule.take(cell, now, permits, 0);
        }
        let mut ruling = self.look(cells, now, 0);
        ruling.allowed = ruling.look.wait == 0;
        ruling
    }

    /// After how many ticks so many permits will have flowed in, more than the burst as well; zero
    /// where that cannot be told.
    pub(crate) fn flow(&self, cells: &mut [Cell], now: u64, permits: u64) -> u64 {
        self.look(cells, now, 0);
        let each = self.rules.iter().zip(cells).map(|it| match it {
            (Rule::Bucket { bucket, .. }, Cell::Slot(slot)) => {
                bucket.flow(slot.level, slot.seen, permits)
            }
            _ => 0,
        });
        each.max().unwrap_or(0)
    }

    /// Takes from each bandwidth until it has no more than `permits`.
    pub(crate) fn leave(&self, cells: &mut [Cell], now: u64, permits: u64) {
        for (rule, cell) in self.rules.iter().zip(cells) {
            let look = rule.look(cell, now, 0);
            let excess = (look.free / look.cost).saturating_sub(permits);
            rule.take(cell, now, excess, 0);
        }
    }

    pub(crate) fn give_back(&self, cells: &mut [Cell], now: u64, permits: u64) {
        self.look(cells, now, 0);
        for (rule, cell) in self.rules.iter().zip(cells) {
            rule.give_back(cell, permits);
        }
    }

    /// After how many ticks a key in this state equals one never seen; 0 if it does.
    pub(crate) fn left(&self, cells: &mut [Cell], now: u64) -> u64 {
        let each = self.rules.iter().zip(cells);
        let each = each.map(|(rule, cell)| rule.look(cell, now, 0).reset_ticks());
        each.max().unwrap_or(0)
    }
}

impl Ruling {
    /// The one of two that the caller should hear.
    fn stricter(self, other: Self) -> Self {
        let allowed = self.allowed && other.allowed;
        let (wait, others) = (self.look.wait_ticks(), other.look.wait_ticks());
        let chosen = if wait == others {
            let left = |it: &Self| it.look.free / it.look.cost;
            if left(&other) < left(&self) {
                other
            } else {
                self
            }
        } else if others > wait {
            other
        } else {
            self
        };
        Self { allowed, ..chosen }
    }

    const fn nothing() -> Self {
        Self {
            allowed: false,
            by: 0,
            look: Look::NOTHING,
        }
    }
}
