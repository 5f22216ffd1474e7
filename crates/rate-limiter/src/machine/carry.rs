//! A live change of quota: what the old bandwidth knew, in the terms of the new one.

use super::{Bucket, Cell, Plan, Rule};
use crate::Carry;

impl Bucket {
    /// What `new` is owed where this one was owed `owed`. Rounds against the caller.
    pub(crate) fn carry(&self, owed: u64, new: &Self, how: Carry) -> u64 {
        let free = i128::from(self.most) - i128::from(owed);
        let burst = |bucket: &Self| i128::from(bucket.most / bucket.cost);
        let (cost, new_cost) = (i128::from(self.cost), i128::from(new.cost));
        let as_it_is = || (free * new_cost).div_euclid(cost);
        let free = match how {
            Carry::AsItIs => as_it_is(),
            Carry::Reset => i128::from(new.most),
            Carry::Proportional => (free * i128::from(new.most)).div_euclid(i128::from(self.most)),
            Carry::Additive => as_it_is() + (burst(new) - burst(self)) * new_cost,
        };
        let owed = (i128::from(new.most) - free).clamp(0, i128::from(new.ceiling));
        u64::try_from(owed).unwrap_or(new.ceiling)
    }
}

impl Plan {
    /// The cells of `new`, which begin as `how` says. A bandwidth is known by its place.
    pub(crate) fn carry(
        &self,
        cells: &mut [Cell],
        now: u64,
        new: &Self,
        how: Carry,
    ) -> Box<[Cell]> {
        let mut fresh = new.fresh();
        self.look(cells, now, 0);
        new.look(&mut fresh, now, 0);
        for (at, (rule, cell)) in new.rules().iter().zip(&mut fresh).enumerate() {
            let Some((old, was)) = self.rules().get(at).zip(cells.get(at)) else {
                continue;
            };
            old.carry(was, now, rule, cell, how);
        }
        fresh
    }
}

impl Rule {
    fn carry(&self, was: &Cell, now: u64, new: &Self, cell: &mut Cell, how: Carry) {
        match (self, was, new, cell) {
            (_, _, _, _) if how == Carry::Reset => {}
            (
                Self::Bucket { bucket, .. },
                Cell::Slot(was),
                Self::Bucket { bucket: to, .. },
                Cell::Slot(cell),
            ) => {
                cell.level = bucket.carry(was.level, to, how);
            }
            (
                Self::Counter { counter, .. },
                Cell::Slot(was),
                Self::Counter { counter: to, .. },
                Cell::Slot(cell),
            ) if counter.window == to.window => {
                *cell = *was;
            }
            (Self::Log { .. }, Cell::Log(was), Self::Log { .. }, Cell::Log(cell)) => {
                cell.clone_from(was);
            }
            // Of another algorithm: what was used of the old is used of the new.
            (_, was, _, cell) => {
                let look = self.look(&mut was.clone(), now, 0);
                let used = (look.limit - look.free).div_ceil(look.cost);
                let most = new.look(cell, now, 0);
                new.take(cell, now, used.min(most.limit / most.cost), 0);
            }
        }
    }
}
