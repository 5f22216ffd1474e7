//! Places by Gradient2: what calls take now, and what they took over a long time.

use std::time::Duration;

use super::adaptive::{Bounds, Machine, Parts};
use crate::{
    PolicyError,
    machine::{Gradient2 as Rule, Gradient2Rule},
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
/// | a sample, as long as a call at least | 100 ms, and 10 calls | 1 ms to 60 s, 1 to 100,000 |
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

    pub(super) fn build(self, places: usize) -> Result<Parts, PolicyError> {
        let bounds = Bounds::checked(self.fewest, self.most, self.window, self.calls)?;
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
        let rule = Gradient2Rule {
            smallest: f64::from(self.fewest),
            largest: f64::from(self.most),
            queue: f64::from(self.queue),
            tolerance: f64::from(self.tolerance) / 100.0,
            smoothing: f64::from(self.smoothing) / 100.0,
        };
        let first = bounds.first(places);
        Ok(Parts {
            machine: Machine::Gradient2(rule, Rule::new(f64::from(first))),
            bounds,
            first,
            slow: None,
        })
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self::new()
    }
}
