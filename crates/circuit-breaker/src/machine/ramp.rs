//! The slow way back: after closing, a growing share of the calls is let through.

use std::time::Duration;

use buttress_core::Moment;

use crate::Rate;

/// How a breaker that has closed comes back to letting all calls through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ramp {
    /// When all are let through again.
    pub(crate) over: Duration,
    /// The share at the beginning. It grows evenly from there.
    pub(crate) first: Rate,
}

impl Ramp {
    pub(crate) fn is_over(&self, since: Moment, now: Moment) -> bool {
        now.saturating_since(since) >= self.over
    }

    /// Whether a call at this moment is let through. `random` is any number, evenly distributed.
    pub(crate) fn admits(&self, since: Moment, now: Moment, random: u64) -> bool {
        // first + (1 - first) × gone / over, in parts of a million: a share of the whole is one.
        let (gone, over) = (
            now.saturating_since(since).as_nanos(),
            self.over.as_nanos().max(1),
        );
        let first = u128::from(self.first.in_millionths());
        let share = first + (1_000_000_u128.saturating_sub(first)).saturating_mul(gone) / over;
        (u128::from(random) * 1_000_000) >> 64 < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_evenly_from_the_first_to_all() {
        let ramp = Ramp {
            over: Duration::from_secs(10),
            first: Rate::percent(20),
        };
        let since = Moment::from_nanos(7);
        let share = |gone: Duration| {
            let now = since.saturating_add(gone);
            let step = u64::MAX / 100;
            (0..100)
                .filter(|at| ramp.admits(since, now, at * step + step / 2))
                .count()
        };
        for (gone, admitted) in [(0, 20), (2500, 40), (5000, 60), (9999, 100), (20_000, 100)] {
            let gone = Duration::from_millis(gone);
            assert_eq!(share(gone), admitted, "{gone:?}");
        }
        assert!(!ramp.is_over(since, since.saturating_add(Duration::from_millis(9999))));
        assert!(ramp.is_over(since, since.saturating_add(Duration::from_secs(10))));
    }
}
