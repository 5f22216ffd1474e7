//! The machine among threads. Closed, a call reads one word and writes at most its result; a lock
//! is taken only where the state changes or probes are counted, and never over user code.

mod answers;
#[cfg(feature = "fleet")]
mod fleet;
mod limits;
#[cfg(all(test, buttress_loom))]
mod loom;
mod probe;
pub(crate) mod sync;
mod word;

use std::{sync::PoisonError, time::Duration};

use buttress_core::Moment;

#[cfg(feature = "fleet")]
pub(crate) use self::fleet::Seen;
pub(crate) use self::{
    answers::{Acquired, Causes, Opens, Refusal, Settled, Taken, Ticket},
    word::{Heed, Word},
};
use self::{
    limits::LiveLimits,
    sync::{
        AtomicU8, AtomicU64, Mutex,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};
use crate::{
    Abandoned, Cause, Counts, State,
    machine::{Limits, Machine, Move, Rules, Sample, Told},
    window::{Changed, Line, Window, tag_of},
};

#[derive(Debug)]
pub(crate) struct Cell {
    /// Read by every call and written only by failures and transitions.
    word: Line<AtomicU64>,
    /// Until when it is open. Written before the word that says so.
    until: AtomicU64,
    limits: LiveLimits,
    /// Since when its probes have closed it. Written before the word that makes calls heed it.
    healed: AtomicU64,
    /// Which thresholds have been reported in this generation, as bits.
    reported: AtomicU8,
    window: Window,
    machine: Mutex<Machine>,
}

/// The user's own rule over the counts. Called without a lock.
pub(crate) type Predicate<'a> = Option<&'a dyn Fn(&Counts) -> bool>;

impl Cell {
    pub(crate) fn new(
        limits: &Limits,
        abandoned: Abandoned,
        rules: Rules,
        window: impl FnOnce(u64) -> Window,
    ) -> Self {
        let machine = Machine::new(rules);
        let heed = match limits.slow_after {
            Some(_) => Heed::Start,
            None => Heed::Nothing,
        };
        let word = Word::new(machine.state(), heed, machine.generation());
        Self {
            word: Line(AtomicU64::new(word.0)),
            until: AtomicU64::new(0),
            healed: AtomicU64::new(0),
            limits: LiveLimits::new(limits, abandoned),
            reported: AtomicU8::new(0),
            window: window(tag_of(machine.generation())),
            machine: Mutex::new(machine),
        }
    }

    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word(self.word.0.load(Acquire))
    }

    pub(crate) const fn limits(&self) -> &LiveLimits {
        &self.limits
    }

    /// What is counted now: the window, or the probes of a round.
    pub(crate) fn counts(&self, now: Moment) -> Counts {
        let probes = self.with(|machine| machine.probes());
        probes.unwrap_or_else(|| self.window.counts(tag_of(self.word().generation()), now))
    }

    /// How long it is still open; `None` when it is not.
    #[inline]
    pub(crate) fn remaining(&self, now: impl FnOnce() -> Moment) -> Option<Duration> {
        match self.word().state() {
            State::Open => {
                let until = Moment::from_nanos(self.until.load(Relaxed));
                Some(until.saturating_since(now()))
            }
            _ => None,
        }
    }

    /// How long a call is still rejected, where that is all there is to say.
    #[inline]
    pub(crate) fn open_rest(&self, now: impl FnOnce() -> Moment) -> Option<Duration> {
        let rest = self.remaining(now)?;
        (!rest.is_zero()).then_some(rest)
    }

    /// State, end of the open time and openings, isolation apart, as of one moment.
    pub(crate) fn beneath(&self) -> (State, Moment, u32) {
        self.with(|machine| (machine.beneath(), machine.until(), machine.openings()))
    }

    pub(crate) fn openings(&self) -> u32 {
        self.with(|machine| machine.openings())
    }

    /// A ticket, where it is closed and nothing is measured. This and
    /// [`Cell::is_untouched_by_success`] are all that a call runs while all goes well.
    #[inline]
    pub(crate) fn acquire_plain(&self) -> Option<Ticket> {
        let word = self.word();
        word.is_plain().then(|| Ticket {
            generation: word.generation(),
            started: Ticket::UNMEASURED,
        })
    }

    /// Whether a success leaves everything as it is: closed still, nothing measured, no failures in
    /// a row, and a window that is none or full of successes.
    #[inline]
    pub(crate) fn is_untouched_by_success(&self, ticket: &Ticket) -> bool {
        self.word() == Word::plain(ticket.generation)
            && self
                .window
                .is_untouched_by_success(tag_of(ticket.generation))
    }

    /// Takes a success in the next commonest case: it changes the window and nothing else.
    #[inline]
    pub(crate) fn take_success(&self, ticket: &Ticket, now: impl FnOnce() -> Moment) -> Taken {
        if self.word() != Word::plain(ticket.generation) {
            return Taken::No;
        }
        match self.window.take_success(tag_of(ticket.generation), now) {
            None => Taken::Yes,
            Some(changed) => Taken::Changes(changed),
        }
    }

    /// What such a success leads to.
    #[inline(never)]
    pub(crate) fn judge_success(
        &self,
        ticket: Ticket,
        changed: Changed,
        now: impl FnOnce() -> Moment,
    ) -> Settled {
        let (tag, limits) = (tag_of(ticket.generation), || self.limits.get());
        match self.window.counts_after(tag, changed, limits) {
            None => Settled::Counted,
            Some(counts) => self.judge(Word::plain(ticket.generation), counts, now, None),
        }
    }

    #[inline]
    pub(crate) fn acquire(
        &self,
        now: impl Fn() -> Moment,
        random: impl FnOnce() -> u64,
    ) -> Acquired {
        let word = self.word();
        if word.is_ramping()
            && let Some(refused) = self.ramp(word, now(), random)
        {
            return refused;
        }
        if word.is_closed() {
            return Acquired::Ticket(self.ticket(word.generation(), now), None);
        }
        self.acquire_unless_closed(word, now)
    }

    /// Refuses a call that the ramp does not let through yet; ends the ramp when it is over.
    #[cold]
    fn ramp(&self, word: Word, now: Moment, random: impl FnOnce() -> u64) -> Option<Acquired> {
        let since = Moment::from_nanos(self.healed.load(Relaxed));
        match self.limits.ramp() {
            Some(ramp) if !ramp.is_over(since, now) => {
                let refused = Acquired::Refused(Refusal::Now(State::Closed, None));
                (!ramp.admits(since, now, random())).then_some(refused)
            }
            _ => {
                self.with(|machine| {
                    if machine.generation() == word.generation() {
                        machine.forget_healing();
                        self.heed(word.generation(), self.heeds(machine));
                    }
                });
                None
            }
        }
    }

    /// Other things to heed, if it is still this generation. Under the machine's lock, so that the
    /// last one to decide is the one who is heeded.
    fn heed(&self, generation: u64, heed: Heed) {
        let _ = self.word.0.fetch_update(AcqRel, Acquire, |word| {
            let word = Word(word);
            (word.generation() == generation).then(|| word.heeding(heed).0)
        });
    }

    #[inline]
    fn ticket(&self, generation: u64, now: impl FnOnce() -> Moment) -> Ticket {
        let started = match self.limits.slow_after() {
            Some(_) => now(),
            None => Ticket::UNMEASURED,
        };
        Ticket {
            generation,
            started,
        }
    }

    #[inline(never)]
    fn acquire_unless_closed(&self, word: Word, now: impl FnOnce() -> Moment) -> Acquired {
        let now = match word.state() {
            State::MetricsOnly => {
                return Acquired::Ticket(self.ticket(word.generation(), now), None);
            }
            State::Disabled => {
                let ticket = Ticket {
                    generation: word.generation(),
                    started: Ticket::UNMEASURED,
                };
                return Acquired::Ticket(ticket, None);
            }
            state @ (State::ForcedOpen | State::Isolated) => {
                return Acquired::Refused(Refusal::Now(state, None));
            }
            State::Open => {
                // It was written before the word. If it is of a later opening, then that one is
                // being made right now, and to be refused by it is right as well.
                let until = Moment::from_nanos(self.until.load(Relaxed));
                let now = now();
                if now < until {
                    let rest = until.saturating_since(now);
                    return Acquired::Refused(Refusal::Now(State::Open, Some(rest)));
                }
                now
            }
            State::Closed | State::HalfOpen => now(),
        };
        self.acquire_probe(now)
    }

    /// Takes the result of a call, and whether it was slow.
    pub(crate) fn settle(
        &self,
        ticket: Ticket,
        sample: Sample,
        now: impl Fn() -> Moment,
        predicate: Predicate<'_>,
    ) -> (Settled, Sample) {
        let word = self.word();
        if word.generation() != ticket.generation {
            return (Settled::Late, sample);
        }
        if !word.is_closed() && word.state() != State::MetricsOnly {
            return self.settle_probe(word, ticket, sample, now);
        }
        let mut read = None;
        let sample = match self.limits.slow_after() {
            Some(after) if !sample.is_abandoned() => {
                let now = *read.insert(now());
                if now.saturating_since(ticket.started) > after {
                    sample.slow()
                } else {
                    sample
                }
            }
            _ => sample,
        };
        let tag = tag_of(word.generation());
        let counts = self.window.record(
            tag,
            sample,
            || read.unwrap_or_else(&now),
            || self.limits.get(),
            predicate.is_some(),
        );
        let consecutive = self.limits.consecutive_failures();
        if consecutive > 0 && !sample.is_abandoned() {
            let streak = self.streak(word, sample.is_failed());
            if streak >= consecutive {
                let now = read.unwrap_or_else(&now);
                let cause = Cause::ConsecutiveFailures;
                let settled = match word.is_closed() {
                    true => self.trips(word, cause, now),
                    false => self.exceeds(Causes::of(std::iter::once(cause)), self.counts(now)),
                };
                return (settled, sample);
            }
        }
        let Some(counts) = counts else {
            return (Settled::Counted, sample);
        };
        let settled = self.judge(word, counts, || read.unwrap_or_else(&now), predicate);
        (settled, sample)
    }

    fn judge(
        &self,
        word: Word,
        counts: Counts,
        now: impl FnOnce() -> Moment,
        predicate: Predicate<'_>,
    ) -> Settled {
        let limits = self.limits.get();
        if !limits.enough(&counts) {
            return Settled::Counted;
        }
        let predicate = predicate.is_some_and(|rule| rule(&counts));
        let causes = limits
            .reached(&counts)
            .chain(predicate.then_some(Cause::Predicate));
        let causes = Causes::of(causes);
        match causes.iter().next() {
            None => Settled::Counted,
            Some(cause) if word.is_closed() => self.trips(word, cause, now()),
            Some(_) => self.exceeds(causes, counts),
        }
    }

    /// A threshold is reached: whoever sees it opens.
    #[cold]
    fn trips(&self, word: Word, cause: Cause, now: Moment) -> Settled {
        Settled::MustOpen(Opens {
            generation: word.generation(),
            cause,
            counts: self.window.counts(tag_of(word.generation()), now),
            openings: self.openings(),
        })
    }

    /// Thresholds are reached where nothing opens: each is reported once.
    #[cold]
    fn exceeds(&self, causes: Causes, counts: Counts) -> Settled {
        let before = self.reported.fetch_or(causes.0, Relaxed);
        match Causes(causes.0 & !before) {
            Causes(0) => Settled::Counted,
            new => Settled::Exceeded(new, counts),
        }
    }

    /// How many have failed in a row, with this one. Zero when the state has changed meanwhile.
    #[inline]
    fn streak(&self, mut word: Word, failed: bool) -> u64 {
        let generation = word.generation();
        loop {
            let streak = if failed { word.streak() + 1 } else { 0 };
            // The common case writes nothing.
            if streak == word.streak() {
                return streak;
            }
            let new = word.with_streak(streak);
            match self
                .word
                .0
                .compare_exchange_weak(word.0, new.0, AcqRel, Acquire)
            {
                Ok(_) => return streak,
                Err(seen) if Word(seen).generation() == generation => word = Word(seen),
                Err(_) => return 0,
            }
        }
    }

    /// The second step of an opening. Nothing, when the state has changed since the first.
    pub(crate) fn open(&self, opens: &Opens, now: Moment, until: Moment) -> Option<Move> {
        self.with(|machine| machine.open(opens.generation, now, until, opens.cause))
    }

    pub(crate) fn set(&self, told: Told) -> Option<Move> {
        self.with(|machine| machine.set(told))
    }

    pub(crate) fn restore(&self, told: Told, openings: u32) {
        self.with(|machine| machine.restore(told, openings));
    }

    pub(crate) fn isolate(&self) -> Option<Move> {
        self.with(Machine::isolate)
    }

    pub(crate) fn rejoin(&self) -> Option<Move> {
        self.with(Machine::rejoin)
    }

    /// Other thresholds and rules from now on; the window stays.
    pub(crate) fn set_policy(
        &self,
        limits: &Limits,
        abandoned: Abandoned,
        rules: Rules,
    ) -> Option<Move> {
        self.limits.set(limits, abandoned);
        self.with(|machine| {
            self.heed(machine.generation(), self.heeds(machine));
            machine.set_rules(rules)
        })
    }

    /// Lets the machine do something, and shows everybody what came of it.
    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let before = machine.generation();
        let result = act(&mut machine);
        if machine.generation() != before {
            self.publish(&machine);
        }
        result
    }

    /// What calls must heed where it is closed.
    fn heeds(&self, machine: &Machine) -> Heed {
        if machine.healed().is_some() && self.limits.ramp().is_some() {
            return Heed::Ramp;
        }
        let slow = self.limits.slow_after();
        slow.map_or(Heed::Nothing, |_| Heed::Start)
    }

    fn publish(&self, machine: &Machine) {
        let (state, generation) = (machine.state(), machine.generation());
        if matches!(state, State::Closed | State::MetricsOnly) {
            self.window.reset(tag_of(generation));
            self.reported.store(0, Relaxed);
        }
        self.until.store(machine.until().as_nanos(), Relaxed);
        // A streak that somebody counts at the same moment belongs to the old generation.
        let healed = machine.healed().unwrap_or(Moment::START);
        self.healed.store(healed.as_nanos(), Relaxed);
        let word = Word::new(state, self.heeds(machine), generation);
        self.word.0.swap(word.0, AcqRel);
    }
}
