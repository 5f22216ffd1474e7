//! A breaker as one would write it who has all the time of the world: lists, and no cleverness.

use std::{collections::VecDeque, time::Duration};

use buttress_circuit_breaker::{Abandoned, Counts, State};

use crate::config::{Config, Over};

/// What can be wrong with a breaker. A comparison that does not notice one of these is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A threshold must be exceeded.
    StrictThreshold,
    /// The open time is over only after its end.
    StrictExpiry,
    /// A result decides although the state has changed since its call began.
    LateResultCounts,
    /// A probe that says nothing keeps its slot.
    SlotIsLost,
    /// A probe that says nothing frees two.
    SlotIsGivenTwice,
    /// The window survives an opening.
    WindowSurvives,
    /// The window is one call too long.
    WindowTooLong,
    /// A success does not end a row of failures.
    StreakSurvives,
    /// Dropped calls are never looked at.
    AbandonedIgnored,
    /// As slow as the threshold is slow.
    SlowAtThreshold,
    /// The minimum is not looked at.
    NoMinimum,
    /// A round never ends by time.
    NoRoundLimit,
    /// Every opening lasts as long as the first.
    NoGrowth,
}

impl Bug {
    pub(crate) const ALL: [Self; 13] = [
        Self::StrictThreshold,
        Self::StrictExpiry,
        Self::LateResultCounts,
        Self::SlotIsLost,
        Self::SlotIsGivenTwice,
        Self::WindowSurvives,
        Self::WindowTooLong,
        Self::StreakSurvives,
        Self::AbandonedIgnored,
        Self::SlowAtThreshold,
        Self::NoMinimum,
        Self::NoRoundLimit,
        Self::NoGrowth,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Said {
    Success,
    Failure,
    Ignored,
    Dropped,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    failed: bool,
    slow: bool,
    abandoned: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed,
    Open(u64),
    HalfOpen(Round),
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

#[derive(Clone, Debug)]
struct Round {
    begun: u64,
    out: u32,
    results: Vec<Entry>,
    abandoned: u32,
}

/// When a permit was given, and in which generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    generation: u64,
    started: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    config: Config,
    bug: Option<Bug>,
    pub(crate) now: u64,
    phase: Phase,
    isolations: u32,
    generation: u64,
    openings: u32,
    entries: VecDeque<Entry>,
    streak: u32,
}

impl Model {
    pub(crate) fn new(config: Config, bug: Option<Bug>) -> Self {
        Self {
            config,
            bug,
            now: 0,
            phase: Phase::Closed,
            isolations: 0,
            generation: 0,
            openings: 0,
            entries: VecDeque::new(),
            streak: 0,
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn state(&self) -> State {
        match self.phase {
            _ if self.isolations > 0 => State::Isolated,
            Phase::Closed => State::Closed,
            Phase::Open(_) => State::Open,
            Phase::HalfOpen(_) => State::HalfOpen,
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::Disabled => State::Disabled,
            Phase::MetricsOnly => State::MetricsOnly,
        }
    }

    pub(crate) fn openings(&self) -> u32 {
        self.openings
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self.phase {
            Phase::Open(until) if self.isolations == 0 => {
                Some(Duration::from_millis(until.saturating_sub(self.now)))
            }
            _ => None,
        }
    }

    /// What the breaker shows of it where it counts in a window: the calls, the failed, the slow,
    /// the abandoned.
    pub(crate) fn counts(&self) -> Option<[u64; 4]> {
        matches!(self.state(), State::Closed | State::MetricsOnly).then(|| self.in_window())
    }

    fn in_window(&self) -> [u64; 4] {
        let kept: Vec<&Entry> = match self.config.window {
            None => Vec::new(),
            Some(Over::Calls(calls)) => {
                let calls = calls + u32::from(self.has(Bug::WindowTooLong));
                self.entries.iter().rev().take(calls as usize).collect()
            }
            Some(Over::Millis(all, buckets)) => {
                let nanos = (all * 1_000_000).div_ceil(buckets.into());
                let bucket = |ms: u64| ms * 1_000_000 / nanos;
                let kept = u64::from(buckets) + u64::from(self.has(Bug::WindowTooLong));
                let is_kept = |entry: &&Entry| bucket(entry.at) + kept > bucket(self.now);
                self.entries.iter().filter(is_kept).collect()
            }
        };
        let count = |which: fn(&Entry) -> bool| kept.iter().filter(|it| which(it)).count() as u64;
        [
            kept.len() as u64,
            count(|it| it.failed),
            count(|it| it.slow),
            count(|it| it.abandoned),
        ]
    }

    /// A permit; or for how long not, where it can be told.
    pub(crate) fn acquire(&mut self) -> Result<Pass, Option<Duration>> {
        if self.isolations > 0 {
            return Err(None);
        }
        let strict = self.has(Bug::StrictExpiry);
        let no_limit = self.has(Bug::NoRoundLimit);
        match &mut self.phase {
            Phase::Closed | Phase::Disabled | Phase::MetricsOnly => {}
            Phase::ForcedOpen => return Err(None),
            Phase::Open(until) if self.now < *until || strict && self.now == *until => {
                return Err(Some(Duration::from_millis(*until - self.now)));
            }
            Phase::Open(_) => self.enter(Phase::HalfOpen(Round {
                begun: self.now,
                out: 1,
                results: Vec::new(),
                abandoned: 0,
            })),
            Phase::HalfOpen(round) => {
                let limit = self.config.limit_ms.filter(|_| !no_limit);
                if limit.is_some_and(|limit| self.now >= round.begun + limit) {
                    self.open();
                    return Err(self.retry_after());
                }
                if round.out >= self.config.permits {
                    return Err(None);
                }
                round.out += 1;
            }
        }
        Ok(Pass {
            generation: self.generation,
            started: self.now,
        })
    }

    pub(crate) fn settle(&mut self, pass: Pass, said: Said) {
        if pass.generation != self.generation && !self.has(Bug::LateResultCounts) {
            return;
        }
        if self.isolations > 0 {
            return;
        }
        let said = match (said, self.config.abandoned) {
            (Said::Dropped, Abandoned::Failure) => Said::Failure,
            (Said::Dropped, Abandoned::Neutral) => Said::Ignored,
            (said, _) => said,
        };
        let took = self.now - pass.started;
        let at_threshold = self.has(Bug::SlowAtThreshold);
        let is_slow = self
            .config
            .slow
            .is_some_and(|(after, _)| took > after || at_threshold && took == after);
        let entry = Entry {
            at: self.now,
            failed: said == Said::Failure,
            slow: is_slow && said != Said::Dropped,
            abandoned: said == Said::Dropped,
        };
        match &self.phase {
            Phase::Closed | Phase::MetricsOnly => self.settle_counted(said, entry),
            Phase::HalfOpen(_) => self.settle_probe(said, entry),
            Phase::Open(_) | Phase::ForcedOpen | Phase::Disabled => {}
        }
    }

    fn settle_counted(&mut self, said: Said, entry: Entry) {
        if said == Said::Ignored {
            return;
        }
        if !(entry.abandoned && self.has(Bug::AbandonedIgnored)) {
            self.entries.push_back(entry);
        }
        match said {
            Said::Success if !self.has(Bug::StreakSurvives) => self.streak = 0,
            Said::Failure => self.streak += 1,
            _ => {}
        }
        let in_a_row = self
            .config
            .consecutive
            .is_some_and(|most| self.streak >= most);
        if matches!(self.phase, Phase::Closed) && (in_a_row || self.rates_reached()) {
            self.open();
        }
    }

    fn rates_reached(&self) -> bool {
        let [calls, failed, slow, abandoned] = self.in_window();
        let (said, failed) = if abandoned * 2 > calls {
            (calls, failed + abandoned)
        } else {
            (calls - abandoned, failed)
        };
        let enough = said >= self.config.minimum.into() || self.has(Bug::NoMinimum);
        enough
            && (self.reached(self.config.failure, failed, said)
                || self.reached(self.config.slow.map(|(_, rate)| rate), slow, said))
    }

    fn reached(&self, rate: Option<(u32, u32)>, count: u64, of: u64) -> bool {
        let Some((part, whole)) = rate else {
            return false;
        };
        let (left, right) = (count * u64::from(whole), of * u64::from(part));
        of > 0 && (left > right || left == right && !self.has(Bug::StrictThreshold))
    }

    fn settle_probe(&mut self, said: Said, entry: Entry) {
        let no_limit = self.has(Bug::NoRoundLimit);
        let (lost, twice) = (self.has(Bug::SlotIsLost), self.has(Bug::SlotIsGivenTwice));
        let Phase::HalfOpen(round) = &mut self.phase else {
            return;
        };
        let limit = self.config.limit_ms.filter(|_| !no_limit);
        let over = limit.is_some_and(|limit| self.now >= round.begun + limit);
        if over && said != Said::Ignored {
            self.open();
            return;
        }
        match said {
            Said::Ignored | Said::Dropped => {
                let freed = u32::from(!lost) + u32::from(twice);
                round.out = round.out.saturating_sub(freed);
                round.abandoned += u32::from(said == Said::Dropped);
                if said == Said::Ignored {
                    return;
                }
            }
            Said::Success | Said::Failure => round.results.push(entry),
        }
        let (permits, round) = (self.config.permits, round.clone());
        let done = u32::try_from(round.results.len()).unwrap();
        if round.abandoned * 2 > permits && done + round.abandoned >= permits {
            self.open();
            return;
        }
        let slow_rate = self.config.slow.map(|(_, rate)| rate);
        let count = |which: &dyn Fn(&Entry) -> bool| {
            round.results.iter().filter(|it| which(it)).count() as u64
        };
        if self.config.all_succeed || self.config.failure.is_none() && slow_rate.is_none() {
            let bad = count(&|it| it.failed || it.slow && slow_rate.is_some());
            if bad > 0 {
                self.open();
            } else if done >= permits {
                self.close();
            }
            return;
        }
        let rest = u64::from(permits.saturating_sub(done));
        let (failed, slow) = (count(&|it| it.failed), count(&|it| it.slow));
        let reached = |failed, slow| {
            self.reached(self.config.failure, failed, permits.into())
                || self.reached(slow_rate, slow, permits.into())
        };
        if reached(failed, slow) {
            self.open();
        } else if !reached(failed + rest, slow + rest) {
            self.close();
        }
    }

    fn open(&mut self) {
        let mut ms = self.config.first_ms;
        for _ in 0..self.openings {
            ms = (ms * 2).min(self.config.cap_ms);
        }
        if self.has(Bug::NoGrowth) {
            ms = self.config.first_ms;
        }
        self.openings += 1;
        self.enter(Phase::Open(self.now + ms));
    }

    pub(crate) fn close(&mut self) {
        self.openings = 0;
        self.enter(Phase::Closed);
    }

    pub(crate) fn open_for(&mut self, ms: u64) {
        self.enter(Phase::Open(self.now + ms));
    }

    pub(crate) fn force_open(&mut self) {
        self.enter(Phase::ForcedOpen);
    }

    pub(crate) fn disable(&mut self) {
        self.enter(Phase::Disabled);
    }

    pub(crate) fn metrics_only(&mut self) {
        self.enter(Phase::MetricsOnly);
    }

    pub(crate) fn isolate(&mut self) {
        self.isolations += 1;
        if self.isolations == 1 {
            self.turn();
        }
    }

    pub(crate) fn rejoin(&mut self) {
        self.isolations -= 1;
        if self.isolations == 0 {
            if matches!(self.phase, Phase::HalfOpen(_)) {
                self.phase = Phase::Open(0);
            }
            self.turn();
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.turn();
    }

    fn turn(&mut self) {
        self.generation += 1;
        self.streak = 0;
        if !self.has(Bug::WindowSurvives) {
            self.entries.clear();
        }
    }
}

/// What of the breaker's counts is compared.
pub(crate) fn of(counts: &Counts) -> [u64; 4] {
    [counts.calls, counts.failed, counts.slow, counts.abandoned]
}
