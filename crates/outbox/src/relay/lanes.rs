//! The lanes that a relay holds of one topic, and what it knows about each.

use std::{collections::HashMap, time::Duration};

use buttress_core::Moment;

use crate::{
    machine::{History, Pace},
    store::{Claimed, Held},
};

/// How often at least it is learned anew what is set aside in a lane, and all is read that is due.
/// In between, reads begin at its lower bound, where it can have one.
pub(super) const FULL_READ: Duration = Duration::from_secs(1);
/// How often at least such a read begins at the lane's start where it need not: for what nobody
/// should have put there.
pub(super) const DEEP_READ: Duration = Duration::from_secs(60);

/// What a worker knows about a lane that it works on.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) held: Held,
    pub(super) pace: Pace,
    /// The message that its last owner died over, to be charged.
    pub(super) charge: Option<i64>,
    /// Below it there is nothing left but keys that are set aside, and nothing will come: whatever
    /// has a lower id is decided. Always the start where that cannot be told, or a later message
    /// of a key would overtake one that is committed late.
    pub(super) low: i64,
    /// When all is to be read that is due, with what is set aside.
    pub(super) full_at: Moment,
    /// When that is to begin at the lane's start.
    pub(super) deep_at: Moment,
    /// Keys that are set aside as far as this relay knows. A read that does not begin at the start
    /// passes over them, for their head may be below it.
    pub(super) aside: HashMap<Vec<u8>, Known>,
    /// There was nothing in it when it was last read from its start.
    pub(super) empty: bool,
    /// There are more keys set aside than are remembered: every read is a full one.
    pub(super) crowded: bool,
    /// It may have messages in the stream.
    pub(super) ring: bool,
    /// What is in its stream up to here is settled. `None`: to be asked.
    pub(super) position: Option<i64>,
}

/// A key that is set aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) head: i64,
    pub(super) history: History,
}

impl Lane {
    pub(super) const fn number(&self) -> i16 {
        self.held.lane
    }

    /// Whatever was believed, the next read begins at the start.
    pub(super) const fn doubt(&mut self, now: Moment) {
        self.low = 0;
        self.full_at = now;
        self.deep_at = now;
        self.position = None;
    }

    /// The lowest id that may be left: of the keys that were set aside, the heads.
    pub(super) fn lowest(&self) -> i64 {
        let heads = self.aside.values().map(|known| known.head);
        heads.fold(self.low, i64::min)
    }
}

/// A lane as the relay's table of them has it.
#[derive(Debug)]
struct Slot {
    held: Held,
    /// Until when the lease is believed in.
    trusted: Moment,
    /// When it was last worked on, in turns.
    turn: u64,
    /// Absent while a worker has it.
    lane: Option<Lane>,
}

/// All lanes held of one topic.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    slots: HashMap<i16, Slot>,
    turns: u64,
    pub(super) paused: bool,
}

impl Lanes {
    pub(super) fn held(&self) -> Vec<Held> {
        let mut held: Vec<Held> = self.slots.values().map(|slot| slot.held).collect();
        held.sort_unstable_by_key(|held| held.lane);
        held
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn claimed(&mut self, claimed: &Claimed, trusted: Moment, now: Moment, most: u32) {
        let mut pace = Pace::full(most);
        if claimed.lapsed {
            pace.lapsed();
        }
        let held = claimed.held;
        let lane = Lane {
            held,
            pace,
            charge: claimed.alone.filter(|_| claimed.lapsed),
            low: 0,
            full_at: now,
            deep_at: now,
            aside: HashMap::new(),
            empty: false,
            crowded: false,
            ring: claimed.ring,
            position: None,
        };
        let slot = Slot {
            held,
            trusted,
            turn: 0,
            lane: Some(lane),
        };
        self.slots.insert(held.lane, slot);
    }

    /// The lease on these was extended, and on no other of those that were asked for. Returns how
    /// many were lost.
    pub(super) fn extended(&mut self, asked: &[Held], kept: &[i16], trusted: Moment) -> usize {
        let mut lost = 0;
        for held in asked {
            if kept.contains(&held.lane) {
                if let Some(slot) = self.slots.get_mut(&held.lane) {
                    slot.trusted = slot.trusted.max(trusted);
                }
            } else {
                lost += usize::from(self.lost(*held));
            }
        }
        lost
    }

    /// This claim is no more. Whether it was still in the table.
    pub(super) fn lost(&mut self, held: Held) -> bool {
        let found = self.slots.get(&held.lane).is_some_and(|it| it.held == held);
        if found {
            self.slots.remove(&held.lane);
        }
        found
    }

    /// Takes out up to so many lanes that nobody works on, to be handed back.
    pub(super) fn hand_back(&mut self, most: usize) -> Vec<Held> {
        let idle = self.slots.values().filter(|slot| slot.lane.is_some());
        let mut idle: Vec<Held> = idle.map(|slot| slot.held).take(most).collect();
        idle.sort_unstable_by_key(|held| held.lane);
        for held in &idle {
            self.slots.remove(&held.lane);
        }
        idle
    }

    /// Lanes to work on: those that waited longest.
    pub(super) fn check_out(&mut self, now: Moment, most: usize) -> Vec<Lane> {
        let idle = |slot: &&mut Slot| slot.lane.is_some() && now < slot.trusted;
        let mut idle: Vec<&mut Slot> = self.slots.values_mut().filter(idle).collect();
        idle.sort_unstable_by_key(|slot| (slot.turn, slot.held.lane));
        idle.truncate(most);
        idle.into_iter()
            .filter_map(|slot| slot.lane.take())
            .collect()
    }

    /// A worker is done with a lane; `served`: it was this lane's turn, whatever was in it. Others
    /// come first from now on, or the same half of all lanes would be read for ever.
    pub(super) fn check_in(&mut self, lane: Lane, served: bool) {
        self.turns += 1;
        if let Some(slot) = self.slots.get_mut(&lane.number())
            && slot.held == lane.held
        {
            if served {
                slot.turn = self.turns;
            }
            slot.lane = Some(lane);
        }
    }

    /// All that is due in all lanes is read next.
    pub(super) fn look_again(&mut self, now: Moment) {
        for lane in self.slots.values_mut().filter_map(|it| it.lane.as_mut()) {
            lane.full_at = now;
        }
    }

    /// Whether the lease is still believed in.
    pub(super) fn is_trusted(&self, held: Held, now: Moment) -> bool {
        let slot = self.slots.get(&held.lane);
        slot.is_some_and(|slot| slot.held == held && now < slot.trusted)
    }

    /// When the next lane is to be read from its start because a key may be due.
    pub(super) fn next_full(&self) -> Option<Moment> {
        let lanes = self.slots.values().filter_map(|slot| slot.lane.as_ref());
        let waiting = lanes.filter(|lane| !lane.aside.is_empty() || lane.crowded);
        waiting.map(|lane| lane.full_at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use buttress_store::{Fence, Token};

    use super::*;

    fn all(number: i16) -> Lanes {
        let mut lanes = Lanes::default();
        let now = Moment::from_nanos(0);
        for lane in 0..number {
            let fence = Fence::new(1, Token::from_bytes([7; 16]));
            let claimed = Claimed {
                held: Held { lane, fence },
                lapsed: false,
                alone: None,
                ring: false,
            };
            lanes.claimed(&claimed, now.saturating_add(FULL_READ), now, 10);
        }
        lanes
    }

    #[test]
    fn every_lane_has_its_turn_though_there_is_nothing_in_it() {
        let mut lanes = all(64);
        let mut seen = HashSet::new();
        for _ in 0..2 {
            let work = lanes.check_out(Moment::from_nanos(1), 32);
            seen.extend(work.iter().map(Lane::number));
            for lane in work {
                lanes.check_in(lane, true);
            }
        }
        assert_eq!(seen.len(), 64);
    }

    #[test]
    fn a_lane_whose_lease_is_not_believed_in_is_not_worked_on() {
        let mut lanes = all(3);
        let later = Moment::from_nanos(0).saturating_add(FULL_READ);
        assert!(lanes.check_out(later, 3).is_empty());
        let held = lanes.held();
        let lost = lanes.extended(&held, &[0, 2], later.saturating_add(FULL_READ));
        assert_eq!((lost, lanes.count()), (1, 2));
        assert_eq!(lanes.check_out(later, 3).len(), 2);
        assert!(lanes.hand_back(9).is_empty(), "a worker has them");
    }
}
