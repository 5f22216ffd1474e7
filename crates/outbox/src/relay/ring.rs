//! Lanes of the ring: how far each may be read, and how far it has come when a turn is done.
//!
//! A lane of the ring is read up to the [bound](super::bound::Bound) and no further, from both
//! tables as if they were one. So of its stream all is known up to where it was read, and that it is
//! settled up to some id is said by this one number. Whatever was not delivered up to there is moved
//! to the table of messages in the same commit, and lives on by the rules that hold there.

use std::sync::atomic::Ordering;

use buttress_store::StoreError;

use super::{lanes::Lane, run::TopicRun};
use crate::store::{Reach, Row};

/// What became of a message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing yet.
    Open,
    /// Its key is set aside: it goes to the table of messages.
    Moves,
    /// It waits or is dead: the same, and that is noted.
    Noted,
    Delivered,
}

/// What a turn has read of a lane's stream.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) lane: i16,
    /// In rising order.
    rows: Vec<(i64, Fate)>,
    /// There are no others up to here.
    end: i64,
}

impl Stretch {
    pub(super) fn new(lane: i16, ids: impl Iterator<Item = i64>, end: i64) -> Self {
        Self {
            lane,
            rows: ids.map(|id| (id, Fate::Open)).collect(),
            end,
        }
    }

    pub(super) fn set(&mut self, id: i64, fate: Fate) {
        if let Ok(place) = self.rows.binary_search_by_key(&id, |(id, _)| *id) {
            self.rows[place].1 = fate;
        }
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.rows.binary_search_by_key(&id, |(id, _)| *id).is_ok()
    }

    /// How far it is settled now: up to the first of which nothing is known. When the turn is done,
    /// up to the last that came to something, for that cannot be said otherwise; what is open below
    /// it moves.
    pub(super) fn upto(&self, done: bool) -> Option<i64> {
        let told = |(_, fate): &(i64, Fate)| matches!(fate, Fate::Noted | Fate::Delivered);
        let last = self.rows.iter().rposition(told).filter(|_| done);
        let from = last.map_or(0, |last| last + 1);
        let open = |(_, fate): &(i64, Fate)| *fate == Fate::Open;
        let Some(behind) = self.rows[from..].iter().position(open) else {
            return (!self.rows.is_empty()).then_some(self.end);
        };
        let place = (from + behind).checked_sub(1)?;
        Some(self.rows[place].0)
    }

    /// What was delivered up to there.
    pub(super) fn delivered(&self, upto: i64) -> impl Iterator<Item = i64> {
        let passed = self.rows.iter().take_while(move |(id, _)| *id <= upto);
        let delivered = passed.filter(|(_, fate)| *fate == Fate::Delivered);
        delivered.map(|(id, _)| *id)
    }

    /// It is settled up to there. How many have moved.
    pub(super) fn settled(&mut self, upto: i64) -> usize {
        let passed = self.rows.partition_point(|(id, _)| *id <= upto);
        let moved = self.rows.drain(..passed);
        moved.filter(|(_, fate)| *fate != Fate::Delivered).count()
    }
}

impl TopicRun {
    /// Makes the topic's lanes lanes of the ring, if it shall have one: those that are free. Until
    /// all are, messages go to the other table.
    pub(super) async fn open_ring(&self) -> Result<(), StoreError> {
        if self.store.has_ring(self.topic().as_str()) && !self.opened.load(Ordering::Relaxed) {
            let opened = self.store.store.ring(self.topic()).await?;
            self.opened.store(opened, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Learns how far the streams of these lanes are settled. After they were claimed, for whoever
    /// had them may have settled until then; and while nothing is known of the server, for it may be
    /// another than before.
    pub(super) async fn locate(&self, work: &mut [Lane]) -> Result<(), StoreError> {
        let nothing = self.bound().0.decided() == 0;
        let unknown = work.iter().filter(|it| it.ring);
        let unknown = unknown.filter(|it| nothing || it.position.is_none());
        let unknown: Vec<i16> = unknown.map(Lane::number).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let store = &self.store.store;
        for (number, position) in store.positions(self.topic(), &unknown).await? {
            let lane = work.iter_mut().find(|it| it.number() == number);
            if let Some(lane) = lane {
                lane.position = Some(position);
            }
        }
        Ok(())
    }

    /// The lowest id that may still be undecided, as of now: two looks, as in one line. While there
    /// is much to do, what was known lately is enough.
    pub(super) async fn undecided_now(&self, busy: bool) -> i64 {
        if busy {
            self.look().await;
        } else if let Ok(_one) = self.seeing.acquire().await {
            for _ in 0..2 {
                let before = self.bound().0.given();
                self.sight(before).await;
            }
        }
        match self.bound().0.decided() {
            0 => 0,
            decided => decided.saturating_add(1),
        }
    }

    /// There may be messages that wait for a transaction to end.
    pub(super) fn is_held_back(&self) -> bool {
        let bound = self.bound();
        self.has_ring.load(Ordering::Relaxed) && bound.0.given() > bound.0.decided()
    }
}

impl Lane {
    /// The lowest id up to which it may not be read. What its stream has passed was decided once.
    pub(super) fn undecided(&self, undecided: i64) -> i64 {
        match self.position {
            Some(position) if self.ring => undecided.max(position.saturating_add(1)),
            _ => undecided,
        }
    }

    /// What of these rows, which are in order, is of the stream. `complete`: there are no others up
    /// to where it was read.
    pub(super) fn stretch(
        &mut self,
        rows: &[Row],
        reach: Reach,
        complete: bool,
    ) -> Option<Stretch> {
        let last = rows.last().map_or(reach.position, |row| row.id);
        let end = if complete { reach.upto } else { last };
        let ids = rows.iter().filter(|row| row.stream).map(|row| row.id);
        let stretch = Stretch::new(self.number(), ids, end);
        if stretch.rows.is_empty() {
            self.position = self.position.max(Some(end));
            return None;
        }
        Some(stretch)
    }

    pub(super) fn reach(&self, undecided: i64) -> Reach {
        let (position, upto) = match self.position {
            Some(position) if self.ring => (position, self.undecided(undecided).saturating_sub(1)),
            // Of a lane that is none of the ring there is no stream.
            _ => (i64::MAX, i64::MAX),
        };
        Reach {
            lane: self.number(),
            low: self.low,
            position,
            upto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_settled_up_to_where_all_is_known() {
        use Fate::{Delivered, Moves, Noted, Open};
        // Fates of the ids 1, 2, 3 and so on; settled while it goes on, and when it is done.
        for (fates, meanwhile, done) in [
            (&[][..], None, None),
            (&[Open, Open], None, None),
            (&[Delivered, Delivered], Some(9), Some(9)),
            (&[Delivered, Open], Some(1), Some(1)),
            (&[Open, Delivered], None, Some(9)),
            (&[Open, Delivered, Open], None, Some(2)),
            (&[Open, Noted, Moves, Open, Moves], None, Some(3)),
            (&[Moves, Open, Moves], Some(1), Some(1)),
            (&[Moves, Noted, Open, Delivered, Open], Some(2), Some(4)),
            (&[Moves, Moves], Some(9), Some(9)),
        ] {
            let ids = (1..).take(fates.len());
            let mut stretch = Stretch::new(0, ids.clone(), 9);
            for (id, fate) in ids.zip(fates) {
                stretch.set(id, *fate);
            }
            assert_eq!(stretch.upto(false), meanwhile, "{fates:?}");
            assert_eq!(stretch.upto(true), done, "{fates:?}");
        }
    }
}
