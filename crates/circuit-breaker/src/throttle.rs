//! A dimmer instead of a switch: calls are rejected by chance, the likelier the fewer succeed.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use buttress_core::{
    ByResult, CallError, Classify, Clock, Outcome, Rejection, RejectionKind, Verdict,
};

use crate::{PolicyError, chance::Chance, machine::Sample, window::Buckets};

/// Rejects a share of the calls on the client's side, as Google's SRE book has it ("Handling
/// Overload", client-side throttling): with the requests and the accepts of the last two minutes,
/// a call is rejected with the probability
///
/// ```text
/// max(0, (requests - K × accepts) / (requests + 1))        K = 2
/// ```
///
/// Rejected calls are requests as well, so the share follows the target's state by itself, in both
/// directions, and some calls always get through: there is no open state. With K = 2 the target
/// sees about twice the requests that it accepts. A lower K throttles earlier.
///
/// What a classifier takes for a success is an accept, refusals for good among them. What it
/// ignores counts as nothing, and so does a call that is dropped; every call reads the clock.
/// Cheap to clone; clones share one state.
#[derive(Clone)]
pub struct AdaptiveThrottle {
    shared: Arc<Shared>,
}

struct Shared {
    name: Cow<'static, str>,
    clock: Clock,
    chance: Chance,
    /// K in thousandths.
    multiplier: u64,
    /// Requests are its calls, and accepts those of them that are not failed.
    window: Buckets,
}

/// The one generation of a window that is never emptied.
const TAG: u64 = 1;
const BUCKETS: u32 = 24;

impl AdaptiveThrottle {
    /// With K = 2 over two minutes, told the time by tokio's clock.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self::make(
            name.into(),
            2000,
            Duration::from_secs(120),
            Clock::default(),
            Chance::default(),
        )
    }

    /// With another K, in percent, from 101 to 10,000; another window, from 1 s to an hour; and
    /// another clock.
    ///
    /// # Errors
    ///
    /// Outside of these ranges.
    pub fn with(
        name: impl Into<Cow<'static, str>>,
        multiplier_percent: u32,
        window: Duration,
        clock: Clock,
    ) -> Result<Self, PolicyError> {
        if !(101..=10_000).contains(&multiplier_percent) {
            return Err(PolicyError::new("multiplier_percent", "from 101 to 10000"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&window) {
            return Err(PolicyError::new("window", "from 1 s to an hour"));
        }
        let multiplier = u64::from(multiplier_percent) * 10;
        Ok(Self::make(
            name.into(),
            multiplier,
            window,
            clock,
            Chance::default(),
        ))
    }

    fn make(
        name: Cow<'static, str>,
        multiplier: u64,
        window: Duration,
        clock: Clock,
        chance: Chance,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                clock,
                chance,
                multiplier,
                window: Buckets::new(window, BUCKETS),
            }),
        }
    }

    /// The same throttle, anew and empty, with chances of your own: any `u64`, evenly spread.
    #[must_use]
    pub fn with_random(self, source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let shared = &self.shared;
        Self {
            shared: Arc::new(Shared {
                name: shared.name.clone(),
                clock: shared.clock.clone(),
                chance: Chance::from_fn(source),
                multiplier: shared.multiplier,
                window: shared.window.renewed(),
            }),
        }
    }

    /// Makes a call, unless chance rejects it. An `Err` is a failure. Dropping the future drops
    /// the call, which then counts as nothing.
    ///
    /// # Errors
    ///
    /// The rejection, or the call's own error.
    pub async fn call<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        self.call_by(future, &ByResult).await
    }

    /// The same, judged by `judge`.
    ///
    /// # Errors
    ///
    /// The rejection, or the call's own error.
    pub async fn call_by<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>>,
        judge: &impl Classify<T, E>,
    ) -> Result<T, CallError<E>> {
        self.check()?;
        let result = future.await;
        self.record(judge.classify(result.as_ref()));
        result.map_err(CallError::Failed)
    }

    /// Whether a call may be made now. Whoever makes it says what came of it by
    /// [`AdaptiveThrottle::record`].
    ///
    /// # Errors
    ///
    /// When chance rejects it. There is no time after which it would surely be let through.
    pub fn check(&self) -> Result<(), Rejection> {
        let shared = &self.shared;
        let now = shared.clock.now();
        let counts = shared.window.counts(TAG, now);
        let accepts = counts.calls.saturating_sub(counts.failed);
        if !rejects(
            counts.calls,
            accepts,
            shared.multiplier,
            shared.chance.next(),
        ) {
            return Ok(());
        }
        shared.window.count(TAG, Sample::FAILURE, now);
        Err(Rejection::new(
            RejectionKind::CircuitOpen,
            shared.name.clone(),
        ))
    }

    /// Takes the verdict on a call that was let through.
    pub fn record(&self, verdict: Verdict) {
        let sample = match verdict.outcome() {
            Outcome::Success => Sample::SUCCESS,
            Outcome::Failure => Sample::FAILURE,
            _ => return,
        };
        let shared = &self.shared;
        shared.window.count(TAG, sample, shared.clock.now());
    }

    /// The requests and the accepts of the window, as they are now.
    #[must_use]
    pub fn requests_and_accepts(&self) -> (u64, u64) {
        let counts = self.shared.window.counts(TAG, self.shared.clock.now());
        (counts.calls, counts.calls.saturating_sub(counts.failed))
    }
}

/// `random / 2^64 < (requests - K × accepts) / (requests + 1)`, in whole numbers.
fn rejects(requests: u64, accepts: u64, multiplier: u64, random: u64) -> bool {
    let excess =
        (u128::from(requests) * 1000).saturating_sub(u128::from(accepts) * u128::from(multiplier));
    let of = (u128::from(requests) + 1) * 1000;
    // 2^44 requests in the window are more than the buckets hold, so nothing overflows.
    u128::from(random) * of < excess << 64
}

impl fmt::Debug for AdaptiveThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveThrottle")
            .field("name", &self.shared.name)
            .field("multiplier", &self.shared.multiplier)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_is_the_books() {
        // In hundredths of the range of chances.
        let probability = |requests, accepts, multiplier| {
            let step = u64::MAX / 100;
            (0..100)
                .filter(|at| rejects(requests, accepts, multiplier, at * step + step / 2))
                .count()
        };
        assert_eq!(probability(0, 0, 2000), 0);
        assert_eq!(probability(100, 100, 2000), 0);
        assert_eq!(
            probability(100, 50, 2000),
            0,
            "up to K times what is accepted"
        );
        assert_eq!(probability(99, 0, 2000), 99);
        assert_eq!(probability(99, 25, 2000), 49);
        assert_eq!(probability(99, 40, 1250), 49);
        assert!(rejects(1 << 44, 0, 2000, u64::MAX >> 1));
        assert!(!rejects(1 << 44, 1 << 44, 10_000, 0));
    }
}
