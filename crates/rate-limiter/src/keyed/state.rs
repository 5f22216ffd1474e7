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
