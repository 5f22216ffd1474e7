//! Places by AIMD: one more while all is well, a share fewer when something is refused or too slow.

use std::time::Duration;

use super::adaptive::{Bounds, Machine, Parts};
use crate::{
    PolicyError,
    machine::{Aimd as Rule, AimdRule},
};

/// A number of places that grows by one while all is well, and shrinks by a share when it is not: additive increase,
/// multiplicative decrease, as TCP has it (Chiu and Jain, 1989).
///
/// Not well is a call that is [`overloaded`](super::ConcurrencyPermit::overloaded), or one that took as long as `slow` says,
/// whatever became of it: also one that somebody gave up by then, a timeout say. One such call in a sample is enough, and
/// more of them are no more.
///
/// | what | default | range |
/// | --- | --- | --- |
/// | places | 10 to 200 | 1 to 1,000,000 |
/// | slow: no call may take so long | 5 s | 1 ms to 1 h |
/// | shrink: what is left of them | 90 % | 1 to 99 % |
/// | a sample, as long as a call at least | 100 ms, and 10 calls | 1 ms to 60 s, 1 to 100,000 |
///
/// ```
/// use std::time::Duration;
/// use buttress_rate_limiter::{Aimd, ConcurrencyLimiter};
///
/// let search = ConcurrencyLimiter::builder("search", 20)
///     .adaptive(Aimd::new().slow(Duration::from_millis(500)))
///     .build()?;
/// let permit = search.try_acquire()?;
/// permit.overloaded(); // it answered 503
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Aimd {
    fewest: u32,
    most: u32,
    slow: Duration,
    shrink: u32,
    window: Duration,
    calls: u32,
}

impl Aimd {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            fewest: 10,
            most: 200,
            slow: Duration::from_secs(5),
            shrink: 90,
            window: Duration::from_millis(100),
            calls: 10,
        }
    }

    /// Never fewer places than that, and never more.
    pub const fn places(mut self, fewest: u32, most: u32) -> Self {
        (self.fewest, self.most) = (fewest, most);
        self
    }

    /// A call that takes so long is too slow.
    pub const fn slow(mut self, slow: Duration) -> Self {
        self.slow = slow;
        self
    }

    /// What is left of the places when it is not well, in percent. It is one less at least.
    pub const fn shrink_percent(mut self, shrink: u32) -> Self {
        self.shrink = shrink;
        self
    }

    /// A sample is a time this long, if so many calls came back in it.
    pub const fn sample(mut self, window: Duration, calls: u32) -> Self {
        (self.window, self.calls) = (window, calls);
        self
    }

    pub(super) fn build(self, places: usize) -> Result<Parts, PolicyError> {
        let bounds = Bounds::checked(self.fewest, self.most, self.window, self.calls)?;
        if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&self.slow) {
            return Err(PolicyError::new("adaptive.slow", "1 ms to 1 h"));
        }
        if !(1..=99).contains(&self.shrink) {
            return Err(PolicyError::new("adaptive.shrink", "1 to 99 percent"));
        }
        let rule = AimdRule {
            smallest: f64::from(self.fewest),
            largest: f64::from(self.most),
            backoff: f64::from(self.shrink) / 100.0,
        };
        let first = bounds.first(places);
        Ok(Parts {
            machine: Machine::Aimd(rule, Rule::new(f64::from(first))),
            bounds,
            first,
            slow: Some(self.slow),
        })
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new()
    }
}
