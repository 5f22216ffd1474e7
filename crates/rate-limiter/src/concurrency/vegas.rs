//! Places by Vegas: how many of the calls must be queueing.

use std::time::Duration;

use super::adaptive::{Bounds, Machine, Parts};
use crate::{
    PolicyError,
    machine::{Shrink, Vegas as Rule, VegasRule},
};

/// A number of places that follows how many calls must be queueing somewhere, when they take so long and took so little
/// without load: as TCP Vegas (Brakmo and Peterson, 1995), and as Netflix' concurrency-limits has it.
///
/// With fewer than alpha in the queue there are more places, with more than beta there are fewer; both are times the decimal
/// logarithm of the places. What a call takes without load is the least that was seen, and is looked at anew now and then,
/// for two samples with half of the places: what has become slower by itself is no queue. A call that is
/// [`overloaded`](super::ConcurrencyPermit::overloaded) makes it shrink as well.
///
/// | what | default | range |
/// | --- | --- | --- |
/// | places | 10 to 200 | 1 to 1,000,000 |
/// | alpha, beta | 3, 6 | 1 to 1000, in order |
/// | smoothing: the weight of a new limit | 100 % | 1 to 100 % |
/// | shrink: by its decimal logarithm, or to | the logarithm | 1 to 99 % |
/// | looks anew after, or from half of it on by chance | 300 samples | 10 to 1,000,000 |
/// | a sample, as long as a call at least | 100 ms, and 10 calls | 1 ms to 60 s, 1 to 100,000 |
///
/// ```
/// use buttress_rate_limiter::{ConcurrencyLimiter, Vegas};
///
/// let search = ConcurrencyLimiter::builder("search", 20)
///     .adaptive(Vegas::new().places(5, 100))
///     .build()?;
/// assert_eq!(search.limit(), 20);
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Vegas {
    fewest: u32,
    most: u32,
    alpha: u32,
    beta: u32,
    smoothing: u32,
    shrink: Option<u32>,
    probe: u32,
    window: Duration,
    calls: u32,
}

impl Vegas {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            fewest: 10,
            most: 200,
            alpha: 3,
            beta: 6,
            smoothing: 100,
            shrink: None,
            probe: 300,
            window: Duration::from_millis(100),
            calls: 10,
        }
    }

    /// Never fewer places than that, and never more.
    pub const fn places(mut self, fewest: u32, most: u32) -> Self {
        (self.fewest, self.most) = (fewest, most);
        self
    }

    /// With fewer than `alpha` in the queue it grows, with more than `beta` it shrinks: times the decimal logarithm of the
    /// places.
    pub const fn queue(mut self, alpha: u32, beta: u32) -> Self {
        (self.alpha, self.beta) = (alpha, beta);
        self
    }

    /// The weight of a new limit against the old one, in percent.
    pub const fn smoothing_percent(mut self, smoothing: u32) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// What is left of the places when it shrinks, in percent, instead of a logarithm less: faster out of an overload, and
    /// further below what would do.
    pub const fn shrink_percent(mut self, shrink: u32) -> Self {
        self.shrink = Some(shrink);
        self
    }

    /// After so many samples, or by chance down to half as many, it looks anew what a call takes without load.
    pub const fn look_after(mut self, samples: u32) -> Self {
        self.probe = samples;
        self
    }

    /// A sample is the average of a time this long, if so many calls came back in it.
    pub const fn sample(mut self, window: Duration, calls: u32) -> Self {
        (self.window, self.calls) = (window, calls);
        self
    }

    pub(super) fn build(self, places: usize) -> Result<Parts, PolicyError> {
        let bounds = Bounds::checked(self.fewest, self.most, self.window, self.calls)?;
        if !(1..=1000).contains(&self.beta) || !(1..=self.beta).contains(&self.alpha) {
            return Err(PolicyError::new("adaptive.queue", "1 to 1000, in order"));
        }
        if !(1..=100).contains(&self.smoothing) {
            return Err(PolicyError::new("adaptive.smoothing", "1 to 100 percent"));
        }
        if self.shrink.is_some_and(|it| !(1..=99).contains(&it)) {
            return Err(PolicyError::new("adaptive.shrink", "1 to 99 percent"));
        }
        if !(10..=1_000_000).contains(&self.probe) {
            return Err(PolicyError::new("adaptive.look", "10 to 1000000 samples"));
        }
        let rule = VegasRule {
            smallest: f64::from(self.fewest),
            largest: f64::from(self.most),
            alpha: f64::from(self.alpha),
            beta: f64::from(self.beta),
            smoothing: f64::from(self.smoothing) / 100.0,
            shrink: match self.shrink {
                None => Shrink::Logarithm,
                Some(percent) => Shrink::To(f64::from(percent) / 100.0),
            },
            probe: self.probe,
        };
        let first = bounds.first(places);
        Ok(Parts {
            machine: Machine::Vegas(rule, Rule::new(f64::from(first))),
            bounds,
            first,
            slow: None,
        })
    }
}

impl Default for Vegas {
    fn default() -> Self {
        Self::new()
    }
}
