//! The thresholds, as atomics: a policy can change while calls are being made.

use std::time::Duration;

use super::sync::{AtomicU64, Ordering::Relaxed};
use crate::{
    Abandoned, Rate,
    machine::{Limits, Ramp},
};

/// A duration of so many nanoseconds is none.
const NEVER: u64 = u64::MAX;

/// Each is read for itself: while a policy is being changed, one call may be judged by the old
/// failure rate and the new slow rate.
#[derive(Debug)]
pub(crate) struct LiveLimits {
    failure_rate: AtomicU64,
    slow_rate: AtomicU64,
    minimum_calls: AtomicU64,
    slow_after: AtomicU64,
    consecutive_failures: AtomicU64,
    abandoned: AtomicU64,
    /// Nanoseconds, or 0 for none; and the first share.
    ramp_over: AtomicU64,
    ramp_first: AtomicU64,
}

impl LiveLimits {
    pub(crate) fn new(limits: &Limits, abandoned: Abandoned) -> Self {
        let live = Self {
            failure_rate: AtomicU64::new(0),
            slow_rate: AtomicU64::new(0),
            minimum_calls: AtomicU64::new(0),
            slow_after: AtomicU64::new(NEVER),
            consecutive_failures: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            ramp_over: AtomicU64::new(0),
            ramp_first: AtomicU64::new(0),
        };
        live.set(limits, abandoned);
        live
    }

    pub(crate) fn set(&self, limits: &Limits, abandoned: Abandoned) {
        let slow_after = limits.slow_after.map_or(NEVER, |after| {
            u64::try_from(after.as_nanos()).map_or(NEVER - 1, |nanos| nanos.min(NEVER - 1))
        });
        let consecutive = limits.consecutive_failures.unwrap_or(0);
        self.failure_rate
            .store(Rate::pack(limits.failure_rate), Relaxed);
        self.slow_rate.store(Rate::pack(limits.slow_rate), Relaxed);
        self.minimum_calls
            .store(u64::from(limits.minimum_calls), Relaxed);
        self.slow_after.store(slow_after, Relaxed);
        self.consecutive_failures
            .store(u64::from(consecutive), Relaxed);
        self.abandoned.store(abandoned as u64, Relaxed);
        let over = limits.ramp.map_or(0, |ramp| {
            u64::try_from(ramp.over.as_nanos()).unwrap_or(u64::MAX)
        });
        self.ramp_over.store(over, Relaxed);
        self.ramp_first
            .store(Rate::pack(limits.ramp.map(|ramp| ramp.first)), Relaxed);
    }

    pub(crate) fn get(&self) -> Limits {
        let small = |cell: &AtomicU64| u32::try_from(cell.load(Relaxed)).unwrap_or(u32::MAX);
        let consecutive = small(&self.consecutive_failures);
        Limits {
            minimum_calls: small(&self.minimum_calls),
            failure_rate: Rate::unpack(self.failure_rate.load(Relaxed)),
            slow_rate: Rate::unpack(self.slow_rate.load(Relaxed)),
            slow_after: self.slow_after(),
            consecutive_failures: (consecutive > 0).then_some(consecutive),
            ramp: self.ramp(),
        }
    }

    pub(crate) fn ramp(&self) -> Option<Ramp> {
        let over = Duration::from_nanos(self.ramp_over.load(Relaxed));
        let first = Rate::unpack(self.ramp_first.load(Relaxed))?;
        (!over.is_zero()).then_some(Ramp { over, first })
    }

    #[inline]
    pub(crate) fn slow_after(&self) -> Option<Duration> {
        match self.slow_after.load(Relaxed) {
            NEVER => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// 0 when it is not looked at.
    pub(crate) fn consecutive_failures(&self) -> u64 {
        self.consecutive_failures.load(Relaxed)
    }

    pub(crate) fn abandoned(&self) -> Abandoned {
        match self.abandoned.load(Relaxed) {
            0 => Abandoned::Neutral,
            1 => Abandoned::Failure,
            _ => Abandoned::FailureWhenMost,
        }
    }
}
