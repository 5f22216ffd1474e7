//! One turn's work: what is charged, what is read, what of it is tried, and in which order.

use std::collections::{HashMap, HashSet, VecDeque};

use buttress_core::Moment;
use buttress_store::{Micros, StoreError};

use super::{
    Pass,
    lanes::{FULL_READ, Known, Lane},
    ledger::Ledger,
    run::TopicRun,
    send::Item,
};
use crate::{
    Delivery, EventKind, Message,
    machine::{self, History, Outcome},
    store::{Held, LeaveOut, Row, SetAside, Until},
};

/// So many set-aside keys a turn's lanes are remembered; with more, every read is a full one.
const REMEMBERED: u32 = 10_000;
/// Of one lane at least so many rows are read at once.
const PER_LANE: u32 = 32;

/// What a turn did.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Messages that were read and could be tried.
    pub(super) rows: usize,
    /// The lanes in which there were any.
    pub(super) served: Vec<i16>,
    /// There were more messages than were read.
    pub(super) cut: bool,
    /// The destination is down or gone.
    pub(super) held_up: bool,
}

impl TopicRun {
    pub(super) async fn round(
        &self,
        work: &mut [Lane],
        limit: u32,
        busy: bool,
        pass: &mut Pass,
    ) -> Result<Round, StoreError> {
        self.charge(work, pass).await?;
        let mut rows = self.read(work, limit, busy).await?;
        let mut ledger = Ledger::new(self);
        let mut round = Round::default();
        let mut runs = Vec::new();
        let mut alone = Vec::new();
        let read: usize = rows.values().map(Vec::len).sum();
        round.cut = read >= usize::try_from(limit).unwrap_or(usize::MAX);
        for lane in work.iter_mut() {
            let rows = rows.remove(&lane.number()).unwrap_or_default();
            if rows.is_empty() {
                continue;
            }
            round.served.push(lane.number());
            let items = self.sort_out(lane, rows, &mut ledger);
            let lapses = items.iter().map(|item| item.history.lapses);
            let (taken, lone) = machine::take(lapses, lane.pace);
            round.rows += taken;
            let items = items.into_iter().take(taken);
            if lone {
                alone.extend(items.map(|item| (lane.held, item)));
            } else {
                runs.extend(by_key(items));
            }
        }
        // What was only set aside is something done as well.
        round.rows = round.rows.max(ledger.noted());
        round.held_up = self.send(work, runs, &mut ledger, pass).await?;
        for (held, item) in alone {
            if round.held_up {
                break;
            }
            round.held_up = self.send_alone(work, held, item, &mut ledger, pass).await?;
        }
        ledger.settle(work, pass).await?;
        Ok(round)
    }

    /// Charges the messages over which a lane's last owner died while he published them alone.
    async fn charge(&self, work: &mut [Lane], pass: &mut Pass) -> Result<(), StoreError> {
        for place in 0..work.len() {
            let Some(id) = work[place].charge else {
                continue;
            };
            let number = work[place].number();
            let store = &self.store.store;
            let at = [(number, id)];
            let rows = store.window(self.topic(), &at, LeaveOut::Nothing, 1, 1);
            let row = rows.await?.into_iter().find(|row| row.id == id);
            let mut ledger = Ledger::new(self);
            ledger.not_alone(number);
            if let Some(row) = row {
                self.remember(&mut work[place..=place]).await?;
                let known = work[place].aside.get(&row.key).copied();
                let known = known.filter(|known| known.head == id);
                if let Some(item) = self.item(row, known, Some(&mut ledger)) {
                    self.tell(|| EventKind::Lapsed { sequence: id });
                    let reason = "whoever published it died over it";
                    ledger.note(&item, Outcome::Lapsed, reason, None);
                }
            }
            ledger.settle(work, pass).await?;
            work[place].charge = None;
        }
        Ok(())
    }

    /// Reads from the lanes: those whose time has come from their start, the others from their
    /// lower bound. While there is much to do, lanes that were empty are looked at with the next
    /// full read.
    async fn read(
        &self,
        work: &mut [Lane],
        limit: u32,
        busy: bool,
    ) -> Result<HashMap<i16, Vec<Row>>, StoreError> {
        let now = self.clock.now();
        let in_order = self.store.store.commits_in_order();
        let whole = |lane: &Lane| lane.crowded || now >= lane.full_at;
        let passed_over = |lane: &Lane| busy && lane.empty && !whole(lane);
        work.sort_by_key(|lane| (!whole(lane), passed_over(lane)));
        let wholes = work.iter().filter(|lane| whole(lane)).count();
        let none = work.iter().filter(|lane| passed_over(lane)).count();
        let (others, _) = work.split_at_mut(work.len() - none);
        let (wholes, others) = others.split_at_mut(wholes);
        let mut rows = Vec::new();
        if !wholes.is_empty() {
            // Known before it is read: a key that somebody frees in between is passed over once
            // more, and none is overtaken.
            self.remember(wholes).await?;
            rows = self.read_part(wholes, true, limit).await?;
            note_full_read(wholes, &rows, limit, now);
        }
        let left = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        if !others.is_empty() && left > 0 {
            let more = self.read_part(others, false, left).await?;
            let passed: HashSet<(i16, &[u8])> = others
                .iter()
                .flat_map(|lane| lane.aside.keys().map(|key| (lane.number(), &key[..])))
                .collect();
            let more = more
                .into_iter()
                .filter(|row| !passed.contains(&(row.lane, &row.key[..])));
            rows.extend(more);
        }
        let mut by_lane: HashMap<i16, Vec<Row>> = HashMap::new();
        for row in rows {
            by_lane.entry(row.lane).or_default().push(row);
        }
        for lane in work {
            if let Some(rows) = by_lane.get_mut(&lane.number()) {
                rows.sort_unstable_by_key(|row| row.id);
                lane.low = match rows.first() {
                    Some(first) if in_order => first.id,
                    _ => 0,
                };
                lane.empty = false;
            }
        }
        Ok(by_lane)
    }

    async fn read_part(
        &self,
        lanes: &[Lane],
        whole: bool,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let from: Vec<(i16, i64)> = lanes.iter().map(|it| (it.number(), it.low)).collect();
        let leave_out = if lanes.iter().all(|it| it.aside.is_empty() && !it.crowded) {
            LeaveOut::Nothing
        } else if whole {
            LeaveOut::Waiting
        } else {
            LeaveOut::Aside
        };
        let many = u32::try_from(lanes.len()).unwrap_or(u32::MAX).max(1);
        let per_lane = limit.div_ceil(many).saturating_mul(4);
        let per_lane = per_lane.max(PER_LANE).min(limit);
        let store = &self.store.store;
        store
            .window(self.topic(), &from, leave_out, per_lane, limit)
            .await
    }

    /// Learns which keys of these lanes are set aside.
    async fn remember(&self, lanes: &mut [Lane]) -> Result<(), StoreError> {
        let numbers: Vec<i16> = lanes.iter().map(Lane::number).collect();
        let store = &self.store.store;
        let asides = store.asides(self.topic(), &numbers, REMEMBERED).await?;
        let crowded = asides.len() >= usize::try_from(REMEMBERED).unwrap_or(usize::MAX);
        for lane in lanes.iter_mut() {
            lane.aside.clear();
            lane.low = 0;
            lane.crowded = crowded;
        }
        for aside in asides {
            let lane = lanes.iter_mut().find(|it| it.number() == aside.lane);
            if let Some(lane) = lane {
                let known = Known {
                    head: aside.head,
                    history: aside.history,
                };
                lane.aside.insert(aside.key, known);
            }
        }
        Ok(())
    }

    /// What of these rows may be tried now, in order. Of a key whose head is not due nothing is.
    fn sort_out(&self, lane: &Lane, rows: Vec<Row>, ledger: &mut Ledger<'_>) -> Vec<Item> {
        let mut stopped: HashSet<Vec<u8>> = HashSet::new();
        let mut begun: HashSet<Vec<u8>> = HashSet::new();
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            if stopped.contains(&row.key) {
                continue;
            }
            let head = !begun.contains(&row.key);
            if let Some(due) = row.early {
                stopped.insert(row.key.clone());
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
                continue;
            }
            let known = lane.aside.get(&row.key).copied();
            let key = row.key.clone();
            match self.item(row, known, head.then_some(&mut *ledger)) {
                Some(item) => {
                    begun.insert(key);
                    items.push(item);
                }
                None => {
                    stopped.insert(key);
                }
            }
        }
        items
    }

    /// `None`: it cannot be read, and is noted as dead in the ledger, once it is its key's head.
    fn item(
        &self,
        row: Row,
        known: Option<Known>,
        ledger: Option<&mut Ledger<'_>>,
    ) -> Option<Item> {
        let lane = row.lane;
        let history = known.filter(|known| known.head == row.id);
        let history = history.map_or_else(History::default, |known| known.history);
        let topic = self.topic().clone();
        let message = Message::stored(topic, &row.key, &row.attributes, row.payload);
        let Ok(message) = message else {
            if let Some(ledger) = ledger {
                ledger.unreadable(lane, row.id, row.key, known.is_some());
            }
            return None;
        };
        let created_at = Micros::new(row.created_at).into();
        let attempt = history.failures.saturating_add(1);
        Some(Item {
            lane,
            id: row.id,
            key: row.key,
            known: known.is_some_and(|known| known.head <= row.id),
            history,
            delivery: Delivery::new(message, row.id, attempt, created_at),
        })
    }
}

/// A full read is one of all the rows that there were room for: a lane of which nothing came may
/// not have been reached.
fn note_full_read(lanes: &mut [Lane], rows: &[Row], limit: u32, now: Moment) {
    let cut = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let seen: HashSet<i16> = rows.iter().map(|row| row.lane).collect();
    for lane in lanes {
        if !cut || seen.contains(&lane.number()) {
            lane.full_at = now.saturating_add(FULL_READ);
            lane.empty = !seen.contains(&lane.number());
        }
    }
}

/// The runs of a lane's keys, each in order.
fn by_key(items: impl Iterator<Item = Item>) -> Vec<VecDeque<Item>> {
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut runs: Vec<VecDeque<Item>> = Vec::new();
    for item in items {
        let place = *places.entry(item.key.clone()).or_insert(runs.len());
        if place == runs.len() {
            runs.push(VecDeque::new());
        }
        runs[place].push_back(item);
    }
    runs
}

/// The lane with this claim.
pub(super) fn find(work: &mut [Lane], held: Held) -> Option<&mut Lane> {
    work.iter_mut().find(|lane| lane.held == held)
}
