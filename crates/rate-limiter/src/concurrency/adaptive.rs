//! A number of places that follows the latencies.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use buttress_core::Moment;

use crate::{
    PolicyError,
    machine::{Gradient2 as Machine, Gradient2Rule},
};

/// A number of places that follows the latencies: Gradient2, as Netflix' concurrency-limits has it. What
/// calls take now is compared with what they took over a long time; when they take longer than
/// `tolerance` times that, they queue somewhere, and there are fewer places.
///
/// | what | default | range |
/// | --- | --- | --- |
/// | places | 10 to 200 | 1 to 1,000,000 |
/// | queue: how many may wait somewhere behind | 4 | 1 to 1000 |
/// | tolerance | 150 % | 100 to 1000 % |
/// | smoothing: the weight of a new limit | 20 % | 1 to 100 % |
/// | a sample | 100 ms, and 10 calls | 1 ms to 60 s, 1 to 100,000 |
///
/// ```
/// use buttress_rate_limiter::{ConcurrencyLimiter, Gradient2};
///
/// let search = ConcurrencyLimiter::builder("search", 20)
///     .adaptive(Gradient2::new().places(5, 100))
///     .build()?;
/// assert_eq!(search.limit(), 20);
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Gradient2 {
    fewest: u32,
    most: u32,
    queue: u32,
    tolerance: u32,
    smoothing: u32,
    window: Duration,
    calls: u32,
}

impl Gradient2 {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            fewest: 10,
            most: 200,
            queue: 4,
            tolerance: 150,
            smoothing: 20,
            window: Duration::from_millis(100),
            calls: 10,
        }
    }

    /// Never fewer places than that, and never more.
    pub const fn places(mut self, fewest: u32, most: u32) -> Self {
        (self.fewest, self.most) = (fewest, most);
        self
    }

    /// How many may queue behind: the limit grows by a share of them as long as all is well.
    pub const fn queue(mut self, queue: u32) -> Self {
        self.queue = queue;
        self
    }

    /// How much longer than usual calls may take, in percent.
    pub const fn tolerance_percent(mut self, tolerance: u32) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// The weight of a new limit against the old one, in percent.
    pub const fn smoothing_percent(mut self, smoothing: u32) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// A sample is the average of a time this long, if so many calls came back in it.
    pub const fn sample(mut self, window: Duration, calls: u32) -> Self {
        (self.window, self.calls) = (window, calls);
        self
    }

    pub(super) fn build(self, places: usize) -> Result<Adaptive, PolicyError> {
        if !(1..=1_000_000).contains(&self.most) || !(1..=self.most).contains(&self.fewest) {
            return Err(PolicyError::new(
                "adaptive.places",
                "1 to 1000000, in order",
            ));
        }
        if !(1..=1000).contains(&self.queue) {
            return Err(PolicyError::new("adaptive.queue", "1 to 1000"));
        }
        if !(100..=1000).contains(&self.tolerance) {
            return Err(PolicyError::new(
                "adaptive.tolerance",
                "100 to 1000 percent",
            ));
        }
        if !(1..=100).contains(&self.smoothing) {
            return Err(PolicyError::new("adaptive.smoothing", "1 to 100 percent"));
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&self.window)
            || !(1..=100_000).contains(&self.calls)
        {
            let range = "1 ms to 60 s, and 1 to 100000 calls";
            return Err(PolicyError::new("adaptive.sample", range));
        }
        let first = u32::try_from(places).unwrap_or(self.most);
        let first = first.clamp(self.fewest, self.most);
        let sample = Sample {
            machine: Machine::new(f64::from(first)),
            begun: None,
            sum: Duration::ZERO,
            calls: 0,
            running: 0,
        };
        Ok(Adaptive {
            rule: Gradient2Rule {
                smallest: f64::from(self.fewest),
                largest: f64::from(self.most),
                queue: f64::from(self.queue),
                tolerance: f64::from(self.tolerance) / 100.0,
                smoothing: f64::from(self.smoothing) / 100.0,
            },
            first,
            window: self.window,
            calls: self.calls,
            sample: Mutex::new(sample),
        })
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) struct Adaptive {
    rule: Gradient2Rule,
    first: u32,
    window: Duration,
    calls: u32,
    sample: Mutex<Sample>,
}

struct Sample {
    machine: Machine,
    begun: Option<Moment>,
    sum: Duration,
    calls: u32,
    running: usize,
}

impl Adaptive {
    pub(super) fn first(&self) -> usize {
        usize::try_from(self.first).unwrap_or(usize::MAX)
    }

    /// A call came back that began with so many running, itself included. The new number of places,
    /// when the sample is complete.
    pub(super) fn sample(&self, since: Moment, now: Moment, running: usize) -> Option<usize> {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = *sample.begun.get_or_insert(now);
        sample.sum = sample.sum.saturating_add(now.saturating_since(since));
        sample.calls = sample.calls.saturating_add(1);
        sample.running = sample.running.max(running);
        if sample.calls < self.calls || now.saturating_since(begun) < self.window {
            return None;
        }
        let average = sample.sum.as_secs_f64() / f64::from(sample.calls);
        let most = f64::from(u32::try_from(sample.running).unwrap_or(u32::MAX));
        let limit = sample.machine.sample(&self.rule, average, most);
        (sample.begun, sample.sum) = (Some(now), Duration::ZERO);
        (sample.calls, sample.running) = (0, 0);
        Some(whole(limit))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rule keeps it within its bounds, 1 to 1000000"
)]
fn whole(limit: f64) -> usize {
    (limit as usize).max(1)
}
