//! The kernel's coarse clock beside its exact one: the time of its last tick.

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// How many ticks the coarse clock is taken to be late at most: one, and one that came late.
const TICKS: u64 = 2;

/// Both clocks count from the same start.
#[derive(Clone, Debug)]
pub(super) struct Coarse {
    start: u64,
    late: u64,
}

impl Coarse {
    pub(super) fn new() -> Self {
        Self {
            start: nanos(clock_gettime(ClockId::Monotonic)),
            late: TICKS * nanos(clock_getres(ClockId::MonotonicCoarse)),
        }
    }

    /// Nanoseconds since the start, exactly.
    pub(super) fn exact(&self) -> u64 {
        nanos(clock_gettime(ClockId::Monotonic)).saturating_sub(self.start)
    }

    /// The earliest and the latest that it can be.
    #[inline]
    pub(super) fn bounds(&self) -> (u64, u64) {
        let tick = nanos(clock_gettime(ClockId::MonotonicCoarse));
        let earliest = tick.saturating_sub(self.start);
        // The first ticks lie before the start.
        let latest = tick.saturating_add(self.late).saturating_sub(self.start);
        (earliest, latest)
    }
}

#[inline]
fn nanos(time: Timespec) -> u64 {
    // Neither is negative: the clock counts from the machine's start.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
