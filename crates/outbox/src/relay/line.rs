//! One line for all keys: the messages of a topic one after the other, in the order of their ids.
//!
//! An id is given before it is committed. So a message is taken when all ids up to its own are
//! [decided](super::bound::Bound): when whoever could still commit one before it has ended.

use std::collections::VecDeque;

use buttress_core::Moment;
use buttress_store::StoreError;

use super::{
    Pass,
    lanes::{DEEP_READ, FULL_READ, Lane},
    ledger::Ledger,
    round::{Round, find},
    run::TopicRun,
    send::Item,
};
use crate::{
    EventKind,
    machine::{self, History, Pace},
    store::{Row, SetAside, Until},
};

/// Messages that wait for a transaction to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    /// The first of them.
    first: i64,
    messages: usize,
    since: Moment,
    /// When it is told of.
    tell_at: Moment,
    /// When they are read again, for what may have come before them by hand.
    read_at: Moment,
}

impl TopicRun {
    /// A turn on all lanes of the topic.
    pub(super) async fn line_round(
        &self,
        work: &mut [Lane],
        limit: u32,
        pass: &mut Pass,
    ) -> Result<Round, StoreError> {
        let mut round = Round::default();
        if work.iter().any(|lane| lane.ring) {
            // It was a topic of the ring, and what it has in the stream is in no line.
            round.held_back = true;
            return Ok(round);
        }
        self.charge(work, pass).await?;
        let Some(mut rows) = self.read_line(work, limit).await? else {
            round.held_back = true;
            self.tell_of_stall();
            return Ok(round);
        };
        let decided = self.bound().0.decided();
        let taken = rows.partition_point(|row| row.id <= decided);
        let undecided = rows.split_off(taken);
        round.held_back = self.note_stall(&undecided, taken > 0);
        let mut ledger = Ledger::new(self);
        let items = self.line_up(work, rows, &mut ledger);
        let lapses = items.iter().map(|item| item.history.lapses);
        let (taken, lone) = machine::take(lapses, pace(work));
        round.rows = taken;
        let mut items: VecDeque<Item> = items.into_iter().take(taken).collect();
        if !lone {
            round.rows = round.rows.max(ledger.noted());
            round.held_up = self.send(work, vec![items], &mut ledger, pass).await?;
        } else if let Some(item) = items.pop_front()
            && let Some(held) = work.iter().find(|it| it.number() == item.lane)
        {
            let (held, before) = (held.held, pace(work));
            round.held_up = self.send_alone(work, held, item, &mut ledger, pass).await?;
            let went_well = find(work, held).is_some_and(|it| it.pace.rows() > before.rows());
            for lane in work.iter_mut().filter(|it| went_well && it.pace == before) {
                lane.pace.went_well();
            }
        }
        round.fruitless = ledger.noted() == 0;
        ledger.finish(work, pass).await?;
        Ok(round)
    }

    /// The next rows in order, decided or not; what is [decided](Self::bound) by now is among them.
    /// `None`: what was held back still is, and nothing was read.
    async fn read_line(
        &self,
        work: &mut [Lane],
        limit: u32,
    ) -> Result<Option<Vec<Row>>, StoreError> {
        // Two looks, and then the read: ids of the first whose writers are not there at the second
        // are decided, and the read sees them.
        for _ in 0..2 {
            let before = self.bound().0.given();
            self.sight(before).await;
        }
        let now = self.clock.now();
        let decided = self.bound().0.decided();
        let still = self
            .stall()
            .filter(|it| decided < it.first && now < it.read_at);
        if still.is_some() {
            return Ok(None);
        }
        self.remember(work, now).await?;
        let from: Vec<(i16, i64)> = work.iter().map(|it| (it.number(), it.low)).collect();
        let store = &self.store.store;
        let rows = store.line(self.topic(), &from, limit).await?;
        let cut = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        // Of the lanes that have no row among them there is none up to here.
        let seen = rows.last().filter(|_| cut).map_or(i64::MAX, |row| row.id);
        if let Some(last) = rows.last() {
            self.bound().0.read(last.id);
        }
        for lane in work {
            let first = rows.iter().find(|row| row.lane == lane.number());
            let none_below = seen.min(decided).saturating_add(1);
            // There may be none because a key waits.
            if !rows.is_empty() {
                lane.low = first.map_or(none_below, |row| row.id.min(none_below));
            }
            lane.full_at = now.saturating_add(FULL_READ);
            if now >= lane.deep_at {
                lane.deep_at = now.saturating_add(DEEP_READ);
            }
        }
        Ok(Some(rows))
    }

    /// Notes what a transaction holds back. Whether anything is.
    fn note_stall(&self, undecided: &[Row], moved: bool) -> bool {
        let now = self.clock.now();
        let Some(first) = undecided.first() else {
            *self.stall() = None;
            return false;
        };
        let later = now.saturating_add(FULL_READ);
        {
            let mut stall = self.stall();
            let before = stall.filter(|_| !moved);
            *stall = Some(Stall {
                first: first.id,
                messages: undecided.len(),
                since: before.map_or(now, |it| it.since),
                tell_at: before.map_or(later, |it| it.tell_at),
                read_at: later,
            });
        }
        self.tell_of_stall();
        true
    }

    fn tell_of_stall(&self) {
        let now = self.clock.now();
        let due = self
            .stall()
            .as_mut()
            .filter(|it| now >= it.tell_at)
            .map(|it| {
                it.tell_at = now.saturating_add(FULL_READ);
                *it
            });
        if let Some(stall) = due {
            self.tell(|| EventKind::HeldBack {
                messages: stall.messages,
                time: now.saturating_since(stall.since),
            });
        }
    }

    /// What of these rows may be tried now. Whatever cannot stops all behind it.
    fn line_up(&self, work: &[Lane], rows: Vec<Row>, ledger: &mut Ledger<'_>) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::with_capacity(rows.len());
        for row in rows {
            let head = items.is_empty();
            if let Some(due) = row.early {
                if head {
                    ledger.set_aside(SetAside {
                        lane: row.lane,
                        key: row.key,
                        head: row.id,
                        history: History::default(),
                        until: Until::At(due),
                        error: "it is not due yet".into(),
                    });
                }
                break;
            }
            let lane = work.iter().find(|it| it.number() == row.lane);
            let known = lane.and_then(|lane| lane.aside.get(&row.key).copied());
            let Some(item) = self.item(row, known, head.then_some(&mut *ledger)) else {
                break;
            };
            items.push(item);
        }
        items
    }
}

/// That of the lane that is furthest back.
fn pace(work: &[Lane]) -> Pace {
    let paces = work.iter().map(|lane| lane.pace);
    paces.min_by_key(Pace::rows).unwrap_or(Pace::full(1))
}
