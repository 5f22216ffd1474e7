//! A number of places that follows what becomes of the calls.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use buttress_core::Moment;

use super::{Aimd, Gradient2, Vegas};
use crate::{PolicyError, machine};

/// By which rule the number of places follows what becomes of the calls.
///
/// | | it learns from | it finds | take it where |
/// | --- | --- | --- | --- |
/// | [`Gradient2`] | what calls take now and took over a long time | where they take half as long again | latencies drift, or nobody knows what is slow |
/// | [`Vegas`] | what calls take now and at least | where a few of them queue | calls are alike, and queueing is what makes them slow |
/// | [`Aimd`] | calls that were refused, or slower than you allow | where the first are | the target says when it has too much, or you have a bound on what a call may take |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdaptiveLimit {
    /// From the gradient of latencies.
    Gradient2(Gradient2),
    /// From how many must be queueing.
    Vegas(Vegas),
    /// From what was too slow, or refused.
    Aimd(Aimd),
}

impl From<Gradient2> for AdaptiveLimit {
    fn from(rule: Gradient2) -> Self {
        Self::Gradient2(rule)
    }
}

impl From<Vegas> for AdaptiveLimit {
    fn from(rule: Vegas) -> Self {
        Self::Vegas(rule)
    }
}

impl From<Aimd> for AdaptiveLimit {
    fn from(rule: Aimd) -> Self {
        Self::Aimd(rule)
    }
}

impl AdaptiveLimit {
    pub(super) fn build(self, places: usize) -> Result<Adaptive, PolicyError> {
        let parts = match self {
            Self::Gradient2(rule) => rule.build(places),
            Self::Vegas(rule) => rule.build(places),
            Self::Aimd(rule) => rule.build(places),
        };
        parts.map(Adaptive::new)
    }
}

/// The longest that a sample takes of itself.
const LONGEST: Duration = Duration::from_secs(60);

/// What all rules have.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    fewest: u32,
    most: u32,
    window: Duration,
    calls: u32,
}

impl Bounds {
    pub(super) fn checked(
        fewest: u32,
        most: u32,
        window: Duration,
        calls: u32,
    ) -> Result<Self, PolicyError> {
        if !(1..=1_000_000).contains(&most) || !(1..=most).contains(&fewest) {
            return Err(PolicyError::new(
                "adaptive.places",
                "1 to 1000000, in order",
            ));
        }
        if !(Duration::from_millis(1)..=LONGEST).contains(&window)
            || !(1..=100_000).contains(&calls)
        {
            let range = "1 ms to 60 s, and 1 to 100000 calls";
            return Err(PolicyError::new("adaptive.sample", range));
        }
        Ok(Self {
            fewest,
            most,
            window,
            calls,
        })
    }

    /// The number that it begins with.
    pub(super) fn first(&self, places: usize) -> u32 {
        let places = u32::try_from(places).unwrap_or(self.most);
        places.clamp(self.fewest, self.most)
    }
}

/// A rule with its numbers.
pub(super) enum Machine {
    Gradient2(machine::Gradient2Rule, machine::Gradient2),
    Vegas(machine::VegasRule, machine::Vegas),
    Aimd(machine::AimdRule, machine::Aimd),
}

/// What a policy comes to.
pub(super) struct Parts {
    pub(super) machine: Machine,
    pub(super) bounds: Bounds,
    pub(super) first: u32,
    /// From here on a call is too slow, whatever becomes of it.
    pub(super) slow: Option<Duration>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    Succeeded,
    /// The target has too much.
    Overloaded,
    /// It failed, or somebody gave it up.
    Unknown,
}

pub(super) struct Adaptive {
    bounds: Bounds,
    first: u32,
    slow: Option<Duration>,
    sample: Mutex<Sample>,
}

struct Sample {
    machine: Machine,
    begun: Option<Moment>,
    sum: Duration,
    calls: u32,
    /// How many of them came to their end.
    ended: u32,
    /// What the quickest of those took; zero before the first.
    least: Duration,
    /// How many were too slow, or refused.
    over: u32,
    running: usize,
    /// When it last shrank because some were too slow, or refused.
    shrunk: Moment,
}

impl Adaptive {
    fn new(parts: Parts) -> Self {
        Self {
            bounds: parts.bounds,
            first: parts.first,
            slow: parts.slow,
            sample: Mutex::new(Sample {
                machine: parts.machine,
                begun: None,
                sum: Duration::ZERO,
                calls: 0,
                ended: 0,
                least: Duration::ZERO,
                over: 0,
                running: 0,
                shrunk: Moment::START,
            }),
        }
    }

    pub(super) fn first(&self) -> usize {
        usize::try_from(self.first).unwrap_or(usize::MAX)
    }

    /// Whether it learns from a call of which nobody says what became of it: that it was slow is known.
    pub(super) const fn heeds(&self, became: Became) -> bool {
        !matches!(became, Became::Unknown) || self.slow.is_some()
    }

    /// A call came back that began with so many running, itself included. The new number of places,
    /// when the sample is complete.
    pub(super) fn sample(
        &self,
        since: Moment,
        now: Moment,
        running: usize,
        became: Became,
    ) -> Option<usize> {
        let took = now.saturating_since(since);
        let is_slow = self.slow.is_some_and(|slow| took >= slow);
        let is_over = is_slow || became == Became::Overloaded;
        if !is_over && became == Became::Unknown {
            return None;
        }
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = *sample.begun.get_or_insert(now);
        if became == Became::Succeeded {
            sample.sum = sample.sum.saturating_add(took);
            sample.least = match sample.ended {
                0 => took,
                _ => sample.least.min(took),
            };
            sample.ended = sample.ended.saturating_add(1);
        }
        // What began before it shrank is of the overload that it shrank for.
        if is_over && since >= sample.shrunk {
            sample.over = sample.over.saturating_add(1);
        }
        sample.running = sample.running.max(running);
        sample.calls = sample.calls.saturating_add(1);
        // As long as a call at least, as TCP's: before, what comes back has not felt the last change.
        let window = self.bounds.window.max(sample.least.min(LONGEST));
        if sample.calls < self.bounds.calls || now.saturating_since(begun) < window {
            return None;
        }
        if sample.over > 0 {
            sample.shrunk = now;
        }
        let limit = sample.judge();
        (sample.begun, sample.sum) = (Some(now), Duration::ZERO);
        (sample.calls, sample.ended, sample.over) = (0, 0, 0);
        (sample.least, sample.running) = (Duration::ZERO, 0);
        Some(whole(limit))
    }
}

impl Sample {
    fn judge(&mut self) -> f64 {
        let average = (self.ended > 0).then(|| self.sum.as_secs_f64() / f64::from(self.ended));
        let most = f64::from(u32::try_from(self.running).unwrap_or(u32::MAX));
        let is_over = self.over > 0;
        match &mut self.machine {
            Machine::Gradient2(rule, gradient) => {
                gradient.sample(rule, average.unwrap_or(0.0), most)
            }
            Machine::Vegas(rule, vegas) => vegas.sample(rule, average, is_over, most, chance()),
            Machine::Aimd(rule, aimd) => aimd.sample(rule, is_over, most),
        }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    // Every RandomState has keys of its own, and its hash of nothing is a keyed mixture of them.
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rule keeps it within its bounds, 1 to 1000000"
)]
fn whole(limit: f64) -> usize {
    (limit as usize).max(1)
}
