//! A token bucket as GCRA: what is owed, in units of which a permit costs a whole number.
//!
//! Time is divided into steps of `length` ticks, each of which pays `gain` units; a permit costs `cost`
//! units, and at most `most` may be owed. Greedy refill has steps of one tick; by interval, and in
//! fixed windows, a step is the whole interval and a unit is a permit.

use super::plan::{Look, NEVER};

/// The numbers of one token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Ticks of one step.
    pub(crate) length: u64,
    /// Units that a step pays back.
    pub(crate) gain: u64,
    /// Units of one permit.
    pub(crate) cost: u64,
    /// Units that may be owed: the burst's worth.
    pub(crate) most: u64,
    /// The most that is ever recorded as owed, by force: from there on numbers would overflow.
    pub(crate) ceiling: u64,
}

impl Bucket {
    /// Permits flow in evenly. The cost is exact where it can be, else rounded up: never too fast.
    ///
    /// `None` when `burst` permits are worth more than `largest` units.
    pub(crate) fn greedy(
        permits: u64,
        period: u64,
        burst: u64,
        finest: u64,
        largest: u64,
    ) -> Option<Self> {
        let divisor = greatest_common_divisor(permits, period);
        let exact = permits / divisor;
        let with = |gain: u64| {
            let cost = (u128::from(period) * u128::from(gain)).div_ceil(u128::from(permits));
            let cost = u64::try_from(cost).ok()?;
            let most = burst.checked_mul(cost).filter(|most| *most <= largest)?;
            Some(Self {
                length: 1,
                gain,
                cost,
                most,
                ceiling: largest.saturating_mul(2) - 1,
            })
        };
        if exact <= finest
            && let Some(bucket) = with(exact)
        {
            return Some(bucket);
        }
        // The excess of the cost over the exact one is below 1 / cost, so the finest is the best.
        let mut finer = finest;
        loop {
            if let Some(bucket) = with(finer) {
                return Some(bucket);
            }
            finer = finer.checked_div(2).filter(|gain| *gain > 0)?;
        }
    }

    /// The same in units of another size, if that changes its rate by less than a millionth.
    pub(crate) fn with_gain(&self, gain: u64) -> Option<Self> {
        if gain == self.gain {
            return Some(*self);
        }
        let burst = self.most / self.cost;
        let cost = (u128::from(self.cost) * u128::from(gain)).div_ceil(u128::from(self.gain));
        let cost = u64::try_from(cost).ok().filter(|it| *it >= 1_000_000)?;
        let most = burst.checked_mul(cost);
        let most = most.filter(|most| *most <= self.ceiling / 2)?;
        Some(Self {
            gain,
            cost,
            most,
            ..*self
        })
    }

    /// `permits` fall in at the end of each period.
    pub(crate) const fn stepwise(permits: u64, period: u64, burst: u64, largest: u64) -> Self {
        Self {
            length: period,
            gain: permits,
            cost: 1,
            most: burst,
            ceiling: largest.saturating_mul(2) - 1,
        }
    }

    /// The units that all steps until `now` pay.
    #[inline]
    pub(crate) const fn paid(&self, now: u64) -> u64 {
        if self.length == 1 {
            return now.saturating_mul(self.gain);
        }
        (now / self.length).saturating_mul(self.gain)
    }

    /// The units that the steps between two ticks pay.
    pub(crate) const fn paid_between(&self, from: u64, to: u64) -> u64 {
        let steps = (to / self.length).saturating_sub(from / self.length);
        steps.saturating_mul(self.gain)
    }

    /// What `permits` cost; `None` when that is more than may ever be owed.
    #[inline]
    pub(crate) const fn price(&self, permits: u64) -> Option<u64> {
        match permits.checked_mul(self.cost) {
            Some(price) if price <= self.most => Some(price),
            _ => None,
        }
    }

    /// What `permits` cost, however much that is.
    pub(crate) const fn price_or_all(&self, permits: u64) -> u64 {
        permits.saturating_mul(self.cost)
    }

    /// After how many ticks from `now` on so many units are paid.
    pub(crate) const fn ticks_for(&self, units: u64, now: u64) -> u64 {
        if units == 0 {
            return 0;
        }
        let steps = units.div_ceil(self.gain);
        if self.length == 1 {
            return steps;
        }
        let into = now % self.length;
        steps.saturating_mul(self.length).saturating_sub(into)
    }

    /// What can be said at tick `at` of a bucket that owes `owed`, to one who wants `permits`.
    #[inline]
    pub(crate) fn look(&self, owed: u64, at: u64, permits: u64) -> Look {
        let free = self.most.saturating_sub(owed);
        let missing = match self.price(permits) {
            Some(price) => price
                .saturating_sub(free)
                .saturating_add(owed.saturating_sub(self.most)),
            None => NEVER,
        };
        let look = Look {
            cost: self.cost,
            limit: self.most,
            free,
            gain: self.gain,
            wait: missing,
            reset: owed,
        };
        if self.length == 1 {
            return look;
        }
        self.in_steps(look, at)
    }

    #[cold]
    const fn in_steps(&self, mut look: Look, at: u64) -> Look {
        if look.wait != NEVER {
            look.wait = self.ticks_for(look.wait, at);
        }
        look.reset = self.ticks_for(look.reset, at);
        look.gain = 1;
        look
    }

    /// After how many ticks `permits` will have flowed in, more than the burst as well.
    pub(crate) const fn flow(&self, owed: u64, at: u64, permits: u64) -> u64 {
        let wanted = owed.saturating_add(self.price_or_all(permits));
        self.ticks_for(wanted.saturating_sub(self.most), at)
    }

    /// The ticks after which whatever may be owed is paid.
    pub(crate) const fn full_ticks(&self) -> u64 {
        self.most.div_ceil(self.gain).saturating_mul(self.length)
    }
}

const fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_exact_where_it_can_be_and_never_too_low() {
        let third = Bucket::greedy(3, 1_000_000_000, 3, 32, 1 << 62).unwrap();
        assert_eq!((third.gain, third.cost), (3, 1_000_000_000));
        for permits in [7, 999_983, 1_000_003, 123_456_789] {
            let bucket = Bucket::greedy(permits, 1_000_000_000, permits, 32, 1 << 62).unwrap();
            // cost / gain is at least period / permits, and by less than 1 / gain more.
            let cost = u128::from(bucket.cost) * u128::from(permits);
            let exact = 1_000_000_000 * u128::from(bucket.gain);
            assert!(
                cost >= exact && cost - exact < u128::from(permits),
                "{permits}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_no_bucket_rather_than_a_wrong_one() {
        // A day each, and so many at once that governor's sum wraps and admits everything.
        let day = 86_400_000_000_000;
        assert_eq!(Bucket::greedy(1, day, 1 << 40, 32, 1 << 62), None);
        assert!(Bucket::greedy(1, day, 30_000, 32, 1 << 62).is_some());
    }
}
