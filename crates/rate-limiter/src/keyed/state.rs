//! What is kept of a key: one word for a bucket, cells for everything else.

use std::sync::Arc;

use super::table::{Between, State};
use crate::{
    Carry,
    cell::{Judged, withholds_a_permit},
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
pub(super) struct Word(pub(super) u64);

impl Word {
    #[inline]
    const fn owed(self, bucket: &Bucket, now: u64) -> u64 {
        self.0.saturating_sub(bucket.paid(now))
    }

    /// Takes permits of a bucket that is refilled evenly, as a direct limiter does it: see `Gcra::judge`.
    /// `at` is no earlier than any time that the word was written by.
    #[expect(clippy::inline_always, reason = "see `Judged`")]
    #[inline(always)]
    pub(super) fn judge(
        &mut self,
        bucket: &Bucket,
        at: &mut Between,
        now: impl Fn() -> u64,
        permits: u64,
    ) -> (Judged, u64, u64) {
        let (earliest, latest) = *at;
        let (gain, most) = (bucket.gain, bucket.most);
        let price = match permits.checked_mul(bucket.cost) {
            Some(price) if price <= most && permits > 0 && bucket.length == 1 => price,
            _ => return (Judged::Elsewhere, 0, 0),
        };
        let mut exact = earliest;
        if earliest != latest {
            let (early, late) = (earliest.saturating_mul(gain), latest.saturating_mul(gain));
            let next = self.0.max(late).saturating_add(price);
            let owed = next - early;
            let wide = (late - early).saturating_mul(4) > most;
            if !wide && !withholds_a_permit(self.0, early, late, bucket.cost) {
                if owed <= most {
                    self.0 = next;
                    return (Judged::Allowed, owed, 0);
                }
                if next - late > most {
                    return (Judged::Refused, self.0.saturating_sub(early), owed - most);
                }
            }
            exact = now().max(earliest);
            *at = (exact, exact);
        }
        let now = exact.saturating_mul(gain);
        let next = self.0.max(now).saturating_add(price);
        let owed = next - now;
        if owed > most {
            return (Judged::Refused, self.0.saturating_sub(now), owed - most);
        }
        self.0 = next;
        (Judged::Allowed, owed, 0)
    }

    #[inline]
    const fn owe(&mut self, bucket: &Bucket, now: u64, owed: u64) {
        self.0 = bucket.paid(now).saturating_add(owed);
    }
}

impl State for Word {
    /// Behind a pointer, so that a shard and its lock are one cache line.
    type Rules = Arc<Bucket>;

    #[inline]
    fn fresh(_: &Arc<Bucket>) -> Self {
        Self(0)
    }

    #[inline]
    fn left(&mut self, bucket: &Arc<Bucket>, now: u64) -> u64 {
        self.owed(bucket, now)
    }
}

impl Limited for Word {
    #[inline]
    fn take(&mut self, bucket: &Arc<Bucket>, now: u64, permits: u64) -> Ruling {
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
    fn look(&mut self, bucket: &Arc<Bucket>, now: u64, permits: u64) -> Ruling {
        let look = bucket.look(self.owed(bucket, now), now, permits);
        Ruling {
            allowed: look.wait == 0 || permits == 0,
            by: 0,
            look,
        }
    }

    fn force(&mut self, bucket: &Arc<Bucket>, now: u64, permits: u64) -> Ruling {
        let owed = self.owed(bucket, now);
        let owed = owed.saturating_add(bucket.price_or_all(permits));
        self.owe(bucket, now, owed.min(bucket.ceiling));
        let mut ruling = self.look(bucket, now, 0);
        ruling.allowed = ruling.look.wait == 0;
        ruling
    }

    fn give_back(&mut self, bucket: &Arc<Bucket>, now: u64, permits: u64) {
        let owed = self.owed(bucket, now);
        self.owe(
            bucket,
            now,
            owed.saturating_sub(bucket.price_or_all(permits)),
        );
    }

    fn flow(&mut self, bucket: &Arc<Bucket>, now: u64, permits: u64) -> u64 {
        bucket.flow(self.owed(bucket, now), now, permits)
    }

    fn carry(&mut self, bucket: &Arc<Bucket>, now: u64, to: &Arc<Bucket>, how: Carry) {
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
            let bucket = Arc::new(*plan.single_bucket().unwrap());
            let (mut word, gcra) = (Word::fresh(&bucket), Gcra::new(plan));
            let mut now = 1_000_000_000;
            for (step, width, wanted) in steps {
                now += step;
                let at = now + width / 2;
                let (mut quickly, mut slowly) = (word, word);
                let (quick, owed, wait) = quickly.judge(&bucket, &mut (at, at), || at, wanted);
                let slow = slowly.take(&bucket, at, wanted);
                prop_assert_eq!(quick == Judged::Elsewhere, wanted > burst);
                if wanted <= burst {
                    prop_assert_eq!(gcra.ruling(quick, owed, wait), slow);
                    prop_assert_eq!(quickly.0, slowly.0);
                }
                let one = word.judge(&bucket, &mut (now, now + width), || at, wanted);
                let other = gcra.judge(|| (now, now + width), || at, wanted, 0);
                prop_assert_eq!(one, other);
                prop_assert_eq!(one.0, quick);
            }
        }
    }
}
