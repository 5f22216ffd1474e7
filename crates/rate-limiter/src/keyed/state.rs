//! What is kept of a key: one word for a bucket, cells for everything else.

use std::sync::Arc;

use super::table::State;
use crate::{
    Carry,
    machine::{Bucket, Cell, Plan, Ruling},
};

/// What a keyed limiter does with the state of a key.
pub(super) trait Limited: State {
    fn take(&mut self, rules: &Self::Rules, now: u64, permits: u64) -> Ruling;
    /// The same whenever it is between the two; `None` where that has to be known exactly.
    fn take_between(
        &mut self,
        _rules: &Self::Rules,
        _between: (u64, u64),
        _permits: u64,
    ) -> Option<Ruling> {
        None
    }
    fn look(&mut self, rules: &Self::Rules, now: u64, permits: u64) -> Ruling;
    fn force(&mut self, rules: &Self::Rules, now: u64, permits: u64) -> Ruling;
    fn give_back(&mut self, rules: &Self::Rules, now: u64, permits: u64);
    fn flow(&mut self, rules: &Self::Rules, now: u64, permits: u64) -> u64;
    fn carry(&mut self, rules: &Self::Rules, now: u64, to: &Self::Rules, how: Carry);
}

/// The time until which a bucket is paid, in its units: 0 for a key never seen. Any time that is past
/// says the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word(u64);

impl Word {
    const fn owed(self, bucket: &Bucket, now: u64) -> u64 {
        self.0.saturating_sub(bucket.paid(now))
    }

    const fn owe(&mut self, bucket: &Bucket, now: u64, owed: u64) {
        self.0 = bucket.paid(now).saturating_add(owed);
    }
}

impl State for Word {
    type Rules = Bucket;

    fn fresh(_: &Bucket) -> Self {
        Self(0)
    }

    #[inline]
    fn left(&mut self, bucket: &Bucket, now: u64) -> u64 {
        self.owed(bucket, now)
    }
}

impl Limited for Word {
    #[inline]
    fn take(&mut self, bucket: &Bucket, now: u64, permits: u64) -> Ruling {
        let owed = self.owed(bucket, now);
        let price = bucket.price(permits).unwrap_or(u64::MAX);
        let after = owed.saturating_add(price);
        if after > bucket.most || permits == 0 {
            return self.look(bucket, now, permits);
        }
        self.owe(bucket, now, after);
        Ruling {
            allowed: true,
            by: 0,
            look: bucket.look(after, now, 0),
        }
    }

    /// As a direct limiter does it: see `Gcra::take_between`.
    #[inline]
    fn take_between(
        &mut self,
        bucket: &Bucket,
        (earliest, latest): (u64, u64),
        permits: u64,
    ) -> Option<Ruling> {
        let price = bucket.price(permits)?;
        let (early, late) = (bucket.paid(earliest), bucket.paid(latest));
        let wide = (late - early).saturating_mul(4) > bucket.most;
        if bucket.length != 1 || permits == 0 || wide {
            return None;
        }
        let next = self.0.max(late).saturating_add(price);
        let owed = next - early;
        let allowed = owed <= bucket.most;
        if !allowed && next - late <= bucket.most {
            return None;
        }
        if allowed {
            self.0 = next;
        }
        let (owed, permits) = if allowed {
            (owed, 0)
        } else {
            (self.0.saturating_sub(early), permits)
        };
        Some(Ruling {
            allowed,
            by: 0,
            look: bucket.look(owed, earliest, permits),
        })
    }

    #[inline]
    fn look(&mut self, bucket: &Bucket, now: u64, permits: u64) -> Ruling {
        let look = bucket.look(self.owed(bucket, now), now, permits);
        Ruling {
            allowed: look.wait == 0 || permits == 0,
            by: 0,
            look,
        }
    }

    fn force(&mut self, bucket: &Bucket, now: u64, permits: u64) -> Ruling {
        let owed = self.owed(bucket, now);
        let owed = owed.saturating_add(bucket.price_or_all(permits));
        self.owe(bucket, now, owed.min(bucket.ceiling));
        let mut ruling = self.look(bucket, now, 0);
        ruling.allowed = ruling.look.wait == 0;
        ruling
    }

    fn give_back(&mut self, bucket: &Bucket, now: u64, permits: u64) {
        let owed = self.owed(bucket, now);
        self.owe(
            bucket,
            now,
            owed.saturating_sub(bucket.price_or_all(permits)),
        );
    }

    fn flow(&mut self, bucket: &Bucket, now: u64, permits: u64) -> u64 {
        bucket.flow(self.owed(bucket, now), now, permits)
    }

    fn carry(&mut self, bucket: &Bucket, now: u64, to: &Bucket, how: Carry) {
        let owed = bucket.carry(self.owed(bucket, now), to, how);
        self.owe(to, now, owed);
    }
}

/// The cells of a plan.
#[derive(Clone, Debug)]
pub(super) struct Cells(Box<[Cell]>);

impl State for Cells {
    type Rules = Arc<Plan>;

    fn fresh(plan: &Arc<Plan>) -> Self {
        Self(plan.fresh())
    }

    fn left(&mut self, plan: &Arc<Plan>, now: u64) -> u64 {
        plan.left(&mut self.0, now)
    }
}

impl Limited for Cells {
    fn take(&mut self, plan: &Arc<Plan>, now: u64, permits: u64) -> Ruling {
        plan.take(&mut self.0, now, permits, 0)
    }

    fn look(&mut self, plan: &Arc<Plan>, now: u64, permits: u64) -> Ruling {
        plan.look(&mut self.0, now, permits)
    }

    fn force(&mut self, plan: &Arc<Plan>, now: u64, permits: u64) -> Ruling {
        plan.force(&mut self.0, now, permits)
    }

    fn give_back(&mut self, plan: &Arc<Plan>, now: u64, permits: u64) {
        plan.give_back(&mut self.0, now, permits);
    }

    fn flow(&mut self, plan: &Arc<Plan>, now: u64, permits: u64) -> u64 {
        plan.flow(&mut self.0, now, permits)
    }

    fn carry(&mut self, plan: &Arc<Plan>, now: u64, to: &Arc<Plan>, how: Carry) {
        self.0 = plan.carry(&mut self.0, now, to, how);
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Bandwidth, Quota, cell::Gcra};

    proptest! {
        /// A key's word under a lock decides as the word of a direct limiter does.
        #[test]
        fn a_key_is_decided_as_a_limiter_of_its_own(
            permits in 1_u64..3_000_000,
            burst in 1_u64..2_000_000,
            steps in prop::collection::vec((0_u64..9_000_000, 0_u64..8_000_000, 1_u64..90_000), 1..100),
        ) {
            let quota = Quota::new(Bandwidth::per_second(permits).burst(burst)).unwrap();
            let plan = Plan::in_process(&quota).unwrap();
            let bucket = *plan.single_bucket().unwrap();
            let (mut word, gcra) = (Word::fresh(&bucket), Gcra::new(plan));
            let mut now = 1_000_000_000;
            for (step, width, wanted) in steps {
                now += step;
                let between = (now, now + width);
                let (one, other) = (
                    word.take_between(&bucket, between, wanted),
                    gcra.take_between(between.0, between.1, wanted),
                );
                prop_assert_eq!(one.map(|it| it.allowed), other.map(|it| it.allowed));
                prop_assert_eq!(one.map(|it| it.look.free), other.map(|it| it.look.free));
                prop_assert_eq!(one.map(|it| it.look.wait), other.map(|it| it.look.wait));
                if one.is_none() {
                    let one = word.take(&bucket, now, wanted).allowed;
                    prop_assert_eq!(one, gcra.take(now, wanted, 0).allowed);
                }
            }
        }
    }
}
