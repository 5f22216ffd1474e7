//! One limiter among threads. A greedy token bucket is one word, changed by compare and swap; all else
//! is under a lock that is never held over user code.

#[cfg(all(test, not(buttress_loom)))]
mod between;
#[cfg(all(test, buttress_loom))]
pub(crate) mod loom;
#[cfg(all(test, not(buttress_loom)))]
mod order;
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
    /// The newest time by which the cells were judged. One who read the clock before, and came to the
    /// lock after, is judged by this.
    newest: u64,
}

/// Where the state is.
enum State<'l> {
    Word(Bucket),
    /// And the time that it is to be judged by.
    Cells(&'l Plan, &'l mut [Cell], u64),
}

impl Locked {
    fn at(&mut self, now: u64) -> u64 {
        self.newest = self.newest.max(now);
        self.newest
    }

    fn state(&mut self, now: impl Fn() -> u64) -> State<'_> {
        match (self.cells.is_some(), fast(&self.plan)) {
            (false, Some(bucket)) => State::Word(*bucket),
            _ => {
                let now = self.at(now());
                let cells = self.cells.as_deref_mut().unwrap_or_default();
                State::Cells(&self.plan, cells, now)
            }
        }
    }
}

/// By how many nanoseconds a processor may read its clock too early, before a load that comes first in the
/// program has ended: longer than the slowest load of a word takes.
pub(crate) const EARLY: u64 = 2_000;

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
            locked: Mutex::new(Locked {
                plan,
                cells,
                newest: 0,
            }),
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
    pub(crate) fn flow(&self, now: impl Fn() -> u64, permits: u64) -> u64 {
        let mut locked = self.lock();
        match locked.state(&now) {
            State::Word(bucket) => {
                let (owed, now) = self.owed(&bucket, now);
                bucket.flow(owed, now, permits)
            }
            State::Cells(plan, cells, now) => plan.flow(cells, now, permits),
        }
    }

    /// Takes `permits`, if they are to be had within `patience` ticks. `again` is a reading in order: see
    /// [`judge`](Self::judge).
    pub(crate) fn take(
        &self,
        now: impl Fn() -> u64,
        again: impl Fn() -> u64,
        permits: u64,
        patience: u64,
    ) -> Ruling {
        let between = || {
            let now = now();
            (now, now)
        };
        match self.judge(between, again, permits, patience) {
            (Judged::Elsewhere, ..) => self.unusual(now, permits, patience),
            (judged, owed, wait) => self.ruling(judged, owed, wait),
        }
    }

    /// Takes `permits` by the word. What is owed then, and by how much that is too much.
    ///
    /// First the word, then the time: so it is no earlier than any by which the word was written, and
    /// nobody lacks what flowed in before a call that was judged first. Where another has written it
    /// meanwhile, or the processor may have read its clock too early, one who would be refused is judged
    /// by `again`, which is read in order.
    ///
    /// Between two ticks permits are given if they are to be had, and refused if they are not to be had,
    /// whenever it is; else the exact time is asked. They are paid for as if it were as late as it can be,
    /// and given only if that is within what may be owed were it as early as it can be: so whatever is
    /// given here, the exact time gives as well, and leaves no more owed. An idle bucket withholds what
    /// flows in between the two at first; so one into which less than a permit flows is not judged so.
    #[expect(clippy::inline_always, reason = "see `Judged`")]
    #[inline(always)]
    pub(crate) fn judge(
        &self,
        bounds: impl Fn() -> (u64, u64),
        again: impl Fn() -> u64,
        permits: u64,
        patience: u64,
    ) -> (Judged, u64, u64) {
        let most = self.most.load(Relaxed);
        let (gain, cost) = (self.gain.load(Relaxed), self.cost.load(Relaxed));
        let price = match permits.checked_mul(cost) {
            Some(price) if price <= most && permits > 0 => price,
            _ => return (Judged::Elsewhere, 0, 0),
        };
        let mut paid_until = self.paid_until.load(Acquire);
        let (earliest, latest) = bounds();
        // One who lacks less than this is looked at again.
        let mut doubt = EARLY.saturating_mul(gain);
        let mut exact = earliest;
        // A branch that is foreseen: what depends on both is not worked out where they are one.
        if earliest != latest {
            let (early, late) = (earliest.saturating_mul(gain), latest.saturating_mul(gain));
            // A bucket that fills up between the two would withhold most of itself.
            let wide = (late - early).saturating_mul(4) > most || patience > 0;
            if !wide && !withholds_a_permit(paid_until, early, late, cost) {
                loop {
                    let next = paid_until.max(late).saturating_add(price);
                    let owed = next - early;
                    if owed > most {
                        let lacks = (next - late).saturating_sub(most);
                        if lacks > doubt && next != u64::MAX {
                            let already = paid_until.saturating_sub(early);
                            return (Judged::Refused, already, owed - most);
                        }
                        break;
                    }
                    match self.swap(paid_until, next) {
                        Ok(_) => return (Judged::Allowed, owed, 0),
                        Err(held) => (paid_until, doubt) = (held, u64::MAX),
                    }
                }
            }
            (exact, doubt) = (again(), 0);
        }
        let patience = patience.saturating_mul(gain);
        loop {
            let now = exact.saturating_mul(gain);
            let next = paid_until.max(now).saturating_add(price);
            let owed = next - now;
            let wait = owed.saturating_sub(most);
            // Where the sum saturates, time has ended, or the word is no longer in use.
            if next == u64::MAX {
                return (Judged::Elsewhere, 0, 0);
            }
            if wait > patience {
                if wait - patience > doubt {
                    return (Judged::Refused, paid_until.saturating_sub(now), wait);
                }
                (exact, doubt) = (again(), 0);
                continue;
            }
            match self.swap(paid_until, next) {
                Ok(_) => return (Judged::Allowed, owed, wait),
                Err(held) => (paid_until, doubt) = (held, u64::MAX),
            }
        }
    }

    /// With the word goes the time that it was judged by.
    #[inline]
    fn swap(&self, paid_until: u64, next: u64) -> Result<u64, u64> {
        self.paid_until
            .compare_exchange_weak(paid_until, next, Release, Acquire)
    }

    /// What is owed by the word, and when.
    fn owed(&self, bucket: &Bucket, now: impl Fn() -> u64) -> (u64, u64) {
        let paid_until = self.paid_until.load(Acquire);
        let now = now();
        (paid_until.saturating_sub(bucket.paid(now)), now)
    }

    /// What is said of it.
    #[inline]
    pub(crate) fn ruling(&self, judged: Judged, owed: u64, wait: u64) -> Ruling {
        let most = self.most.load(Relaxed);
        let (gain, cost) = (self.gain.load(Relaxed), self.cost.load(Relaxed));
        ruling(judged == Judged::Allowed, cost, most, gain, owed, wait)
    }

    /// What would be said, without taking anything.
    pub(crate) fn look(&self, now: impl Fn() -> u64, permits: u64) -> Ruling {
        let mut locked = self.lock();
        match locked.state(&now) {
            State::Word(bucket) => {
                let (owed, now) = self.owed(&bucket, now);
                let look = bucket.look(owed, now, permits);
                Ruling {
                    allowed: look.wait == 0 || permits == 0,
                    by: 0,
                    look,
                }
            }
            State::Cells(plan, cells, now) => plan.look(cells, now, permits),
        }
    }

    /// Takes `permits`, whether they are there or not.
    pub(crate) fn force(&self, now: impl Fn() -> u64, permits: u64) -> Ruling {
        let mut locked = self.lock();
        match locked.state(&now) {
            State::Word(bucket) => {
                let price = bucket.price_or_all(permits);
                let with = |owed: u64| owed.saturating_add(price).min(bucket.ceiling);
                self.change(|| bucket.paid(now()), with);
                drop(locked);
                let mut ruling = self.look(now, 0);
                ruling.allowed = ruling.look.wait == 0;
                ruling
            }
            State::Cells(plan, cells, now) => plan.force(cells, now, permits),
        }
    }

    /// Gives `permits` back, as many of them as are still owed.
    pub(crate) fn give_back(&self, now: impl Fn() -> u64, permits: u64) {
        let mut locked = self.lock();
        match locked.state(&now) {
            State::Word(bucket) => {
                let price = bucket.price_or_all(permits);
                let without = |owed: u64| owed.saturating_sub(price);
                self.change(|| bucket.paid(now()), without);
            }
            State::Cells(plan, cells, now) => plan.give_back(cells, now, permits),
        }
    }

    /// Goes on by another plan, with the state that `how` says.
    pub(crate) fn set_plan(&self, now: impl Fn() -> u64, new: Plan, how: Carry) {
        let mut locked = self.lock();
        match locked.state(&now) {
            State::Word(old) => {
                let to = fast(&new).and_then(|to| to.with_gain(old.gain));
                if let Some(to) = to {
                    self.cost.store(to.cost, Relaxed);
                    self.most.store(to.most, Release);
                    self.change(|| old.paid(now()), |owed| old.carry(owed, &to, how));
                    locked.plan = Plan::of_bucket(to);
                    return;
                }
                // From here on calls come to the lock, and wait for the new numbers.
                self.most.store(0, Release);
                let paid_until = self.paid_until.swap(u64::MAX, Acquire);
                let now = locked.at(now());
                let slot = crate::machine::Slot {
                    seen: now,
                    level: paid_until.saturating_sub(old.paid(now)),
                    before: 0,
                };
                let mut was = [Cell::Slot(slot)];
                locked.cells = Some(locked.plan.carry(&mut was, now, &new, how));
            }
            State::Cells(plan, cells, now) => {
                let carried = plan.carry(cells, now, &new, how);
                locked.cells = Some(carried);
            }
        }
        locked.plan = new;
    }

    /// What is not one word, or is no ordinary request.
    #[cold]
    fn unusual(&self, now: impl Fn() -> u64, permits: u64, patience: u64) -> Ruling {
        let mut locked = self.lock();
        match locked.state(&now) {
            State::Word(_) => {
                drop(locked);
                self.look(now, permits)
            }
            State::Cells(plan, cells, now) => plan.take(cells, now, permits, patience),
        }
    }

    /// Changes what is owed at a time, `paid`, by compare and swap.
    fn change(&self, paid: impl Fn() -> u64, change: impl Fn(u64) -> u64) {
        let mut paid_until = self.paid_until.load(Acquire);
        loop {
            let paid = paid();
            let owed = change(paid_until.saturating_sub(paid));
            match self.swap(paid_until, paid.saturating_add(owed)) {
                Ok(_) => return,
                Err(held) => paid_until = held,
            }
        }
    }

    fn lock(&self) -> impl std::ops::DerefMut<Target = Locked> + '_ {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a bucket that is idle, judged between two ticks, would withhold its last permit: less than
/// one flows in between them, so what it is charged for too late is missed by who takes the last.
#[inline]
pub(crate) const fn withholds_a_permit(paid_until: u64, early: u64, late: u64, cost: u64) -> bool {
    paid_until < late && cost > late - early
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
