//! One limiter among threads. A greedy token bucket is one word, changed by compare and swap; all else
//! is under a lock that is never held over user code.

#[cfg(all(test, not(buttress_loom)))]
mod between;
#[cfg(all(test, buttress_loom))]
pub(crate) mod loom;
pub(crate) mod sync;

use std::sync::PoisonError;

use self::sync::{
    AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::{
    Carry,
    machine::{Bucket, Cell, Look, NEVER, Plan, Ruling},
};

/// What a word says to one who takes.
///
/// On a hot path it goes with two numbers, in registers: a whole answer is nine words, of which a caller
/// mostly reads one, and to hand it on in memory costs more than to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Allowed,
    Refused,
    /// The state is not the word, or what is asked for is no ordinary request.
    Elsewhere,
}

/// The state of a direct limiter.
///
/// The word is the theoretical arrival time of GCRA: the time until which everything is paid, in units
/// since the clock's start. Its numbers are atomics, for they can be changed while calls go on; a call
/// that races with a change is decided by the old numbers, by the new, or by one of each. `gain`, which
/// gives the units their size, never changes while the word is in use, so none of these is worse than one
/// call decided otherwise, for each thread.
#[repr(align(64))]
pub(crate) struct Gcra {
    paid_until: AtomicU64,
    gain: AtomicU64,
    cost: AtomicU64,
    /// Zero: the word is not in use, the lock is.
    most: AtomicU64,
    locked: Mutex<Locked>,
}

struct Locked {
    plan: Plan,
    /// The state, where it is not the word.
    cells: Option<Box<[Cell]>>,
}

impl Gcra {
    pub(crate) fn new(plan: Plan) -> Self {
        let fast = fast(&plan).copied();
        let cells = match fast {
            Some(_) => None,
            None => Some(plan.fresh()),
        };
        let numbers = fast.unwrap_or(Bucket::stepwise(1, 1, 0, 1));
        Self {
            paid_until: AtomicU64::new(0),
            gain: AtomicU64::new(numbers.gain),
            cost: AtomicU64::new(numbers.cost),
            most: AtomicU64::new(numbers.most),
            locked: Mutex::new(Locked { plan, cells }),
        }
    }

    /// The same, with `initial` permits where there could be more.
    pub(crate) fn beginning(plan: Plan, now: u64, initial: u64) -> Self {
        let mut cells = plan.fresh();
        plan.leave(&mut cells, now, initial);
        let gcra = Self::new(plan);
        let mut locked = gcra.lock();
        match (&mut locked.cells, cells.first()) {
            (Some(held), _) => *held = cells,
            (None, Some(Cell::Slot(slot))) => {
                let paid = now.saturating_mul(gcra.gain.load(Relaxed));
                let until = paid.saturating_add(slot.level);
                gcra.paid_until.store(until, Relaxed);
            }
            (None, _) => {}
        }
        drop(locked);
        gcra
    }

    /// After how many ticks so many permits will have flowed in, more than the burst as well; zero
    /// where that cannot be told.
    pub(crate) fn flow(&self, now: u64, permits: u64) -> u64 {
        let mut locked = self.lock();
        let Locked { plan, cells } = &mut *locked;
        match (cells, fast(plan)) {
            (None, Some(bucket)) => {
                let paid_until = self.paid_until.load(Relaxed);
                let owed = paid_until.saturating_sub(bucket.paid(now));
                bucket.flow(owed, now, permits)
            }
            (cells, _) => plan.flow(cells.as_deref_mut().unwrap_or_default(), now, permits),
        }
    }

    /// Takes `permits`, if they are to be had within `patience` ticks.
    pub(crate) fn take(&self, now: u64, permits: u64, patience: u64) -> Ruling {
        match self.judge((now, now), || now, permits, patience) {
            (Judged::Elsewhere, ..) => self.unusual(now, permits, patience),
            (judged, owed, wait) => self.ruling(judged, owed, wait),
        }
    }

    /// Takes `permits` by the word. What is owed then, and by how much that is too much.
    ///
    /// Between two ticks permits are given if they are to be had, and refused if they are not to be had,
    /// whenever it is; else `now` is asked. They are paid for as if it were as late as it can be, and given
    /// only if that is within what may be owed were it as early as it can be: so whatever is given here, the
    /// exact time gives as well, and leaves no more owed. An idle bucket withholds what flows in between the
    /// two at first.
    #[expect(clippy::inline_always, reason = "see `Judged`")]
    #[inline(always)]
    pub(crate) fn judge(
        &self,
        (earliest, latest): (u64, u64),
        now: impl Fn() -> u64,
        permits: u64,
        patience: u64,
    ) -> (Judged, u64, u64) {
        let most = self.most.load(Relaxed);
        let (gain, cost) = (self.gain.load(Relaxed), self.cost.load(Relaxed));
        let price = match permits.checked_mul(cost) {
            Some(price) if price <= most && permits > 0 => price,
            _ => return (Judged::Elsewhere, 0, 0),
        };
        let mut paid_until = self.paid_until.load(Relaxed);
        let mut exact = earliest;
        // A branch that is foreseen: what depends on both is not worked out where they are one.
        if earliest != latest {
            let (early, late) = (earliest.saturating_mul(gain), latest.saturating_mul(gain));
            // A bucket that fills up between the two would withhold most of itself.
            let wide = (late - early).saturating_mul(4) > most || patience > 0;
            if !wide {
                loop {
                    let next = paid_until.max(late).saturating_add(price);
                    let owed = next - early;
                    if owed > most {
                        if next - late > most && next != u64::MAX {
                            let already = paid_until.saturating_sub(early);
                            return (Judged::Refused, already, owed - most);
                        }
                        break;
                    }
                    match self
                        .paid_until
                        .compare_exchange_weak(paid_until, next, Relaxed, Relaxed)
                    {
                        Ok(_) => return (Judged::Allowed, owed, 0),
                        Err(held) => paid_until = held,
                    }
                }
            }
            exact = now();
        }
        let (now, patience) = (exact.saturating_mul(gain), patience.saturating_mul(gain));
        loop {
            let next = paid_until.max(now).saturating_add(price);
            let owed = next - now;
            let wait = owed.saturating_sub(most);
            // Where the sum saturates, time has ended, or the word is no longer in use.
            if next == u64::MAX {
                return (Judged::Elsewhere, 0, 0);
            }
            if wait > patience {
                return (Judged::Refused, paid_until.saturating_sub(now), wait);
            }
            match self
                .paid_until
                .compare_exchange_weak(paid_until, next, Relaxed, Relaxed)
            {
                Ok(_) => return (Judged::Allowed, owed, wait),
                Err(held) => paid_until = held,
            }
        }
    }

    /// What is said of it.
    #[inline]
    pub(crate) fn ruling(&self, judged: Judged, owed: u64, wait: u64) -> Ruling {
        let most = self.most.load(Relaxed);
        let (gain, cost) = (self.gain.load(Relaxed), self.cost.load(Relaxed));
        ruling(judged == Judged::Allowed, cost, most, gain, owed, wait)
    }

    /// What would be said, without taking anything.
    pub(crate) fn look(&self, now: u64, permits: u64) -> Ruling {
        let mut locked = self.lock();
        let Locked { plan, cells } = &mut *locked;
        match (cells, fast(plan)) {
            (None, Some(bucket)) => {
                let paid_until = self.paid_until.load(Relaxed);
                let owed = paid_until.saturating_sub(bucket.paid(now));
                let look = bucket.look(owed, now, permits);
                Ruling {
                    allowed: look.wait == 0 || permits == 0,
                    by: 0,
                    look,
                }
            }
            (cells, _) => plan.look(cells.as_deref_mut().unwrap_or_default(), now, permits),
        }
    }

    /// Takes `permits`, whether they are there or not.
    pub(crate) fn force(&self, now: u64, permits: u64) -> Ruling {
        let mut locked = self.lock();
        let Locked { plan, cells } = &mut *locked;
        if let (None, Some(bucket)) = (&cells, fast(plan)) {
            let bucket = *bucket;
            let price = bucket.price_or_all(permits);
            self.change(bucket.paid(now), |owed| {
                owed.saturating_add(price).min(bucket.ceiling)
            });
            drop(locked);
            let mut ruling = self.look(now, 0);
            ruling.allowed = ruling.look.wait == 0;
            return ruling;
        }
        plan.force(cells.as_deref_mut().unwrap_or_default(), now, permits)
    }

    /// Gives `permits` back, as many of them as are still owed.
    pub(crate) fn give_back(&self, now: u64, permits: u64) {
        let mut locked = self.lock();
        let Locked { plan, cells } = &mut *locked;
        if let (None, Some(bucket)) = (&cells, fast(plan)) {
            let price = bucket.price_or_all(permits);
            self.change(bucket.paid(now), |owed| owed.saturating_sub(price));
            return;
        }
        plan.give_back(cells.as_deref_mut().unwrap_or_default(), now, permits);
    }

    /// Goes on by another plan, with the state that `how` says.
    pub(crate) fn set_plan(&self, now: u64, new: Plan, how: Carry) {
        let mut locked = self.lock();
        let Locked { plan, cells } = &mut *locked;
        let in_its_units = fast(plan).zip(fast(&new));
        let in_its_units = in_its_units.and_then(|(old, to)| to.with_gain(old.gain));
        match (&mut *cells, fast(plan), in_its_units) {
            (None, Some(old), Some(to)) => {
                let old = *old;
                self.cost.store(to.cost, Relaxed);
                self.most.store(to.most, Release);
                self.change(old.paid(now), |owed| old.carry(owed, &to, how));
                locked.plan = Plan::of_bucket(to);
                return;
            }
            (None, Some(old), None) => {
                // From here on calls come to the lock, and wait for the new numbers.
                let old = *old;
                self.most.store(0, Release);
                let paid_until = self.paid_until.swap(u64::MAX, Relaxed);
                let slot = crate::machine::Slot {
                    seen: now,
                    level: paid_until.saturating_sub(old.paid(now)),
                    before: 0,
                };
                let mut was = [Cell::Slot(slot)];
                *cells = Some(plan.carry(&mut was, now, &new, how));
            }
            (Some(held), _, _) => *held = plan.carry(held, now, &new, how),
            (None, None, _) => *cells = Some(new.fresh()),
        }
        locked.plan = new;
    }

    /// What is not one word, or is no ordinary request.
    #[cold]
    fn unusual(&self, now: u64, permits: u64, patience: u64) -> Ruling {
        let mut locked = self.lock();
        let Locked { plan, cells } = &mut *locked;
        match cells {
            Some(cells) => plan.take(cells, now, permits, patience),
            None => {
                drop(locked);
                self.look(now, permits)
            }
        }
    }

    /// Changes what is owed at `paid`, by compare and swap.
    fn change(&self, paid: u64, change: impl Fn(u64) -> u64) {
        let mut paid_until = self.paid_until.load(Acquire);
        loop {
            let owed = change(paid_until.saturating_sub(paid));
            let next = paid.saturating_add(owed);
            match self
                .paid_until
                .compare_exchange_weak(paid_until, next, Relaxed, Relaxed)
            {
                Ok(_) => return,
                Err(held) => paid_until = held,
            }
        }
    }

    fn lock(&self) -> impl std::ops::DerefMut<Target = Locked> + '_ {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bucket of a plan whose state is the word.
fn fast(plan: &Plan) -> Option<&Bucket> {
    plan.single_bucket().filter(|bucket| bucket.length == 1)
}

#[inline]
pub(crate) const fn ruling(
    allowed: bool,
    cost: u64,
    most: u64,
    gain: u64,
    owed: u64,
    wait: u64,
) -> Ruling {
    Ruling {
        allowed,
        by: 0,
        look: Look {
            cost,
            limit: most,
            free: most.saturating_sub(owed),
            gain,
            wait: if wait == NEVER { NEVER - 1 } else { wait },
            reset: owed,
        },
    }
}
