//! One turn's work: what is charged, what is read, what of it is tried, and in which order.

use std::collections::{HashMap, HashSet, VecDeque};

use buttress_store::{Micros, StoreError};

use super::{
    Pass,
    lanes::{Known, Lane},
    ledger::Ledger,
    ring::Stretch,
    run::TopicRun,
    send::Item,
};
use crate::{
    Delivery, EventKind, Message,
    machine::{self, History, Outcome},
    store::{Held, LeaveOut, Reach, Row, SetAside, Until},
};

/// What a turn did.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Messages that were read and could be tried.
    pub(super) rows: usize,
    /// The lanes in which there were any.
    pub(super) served: Vec<i16>,
    /// Messages were handed to the publisher, and it says of none that it tried.
    pub(super) fruitless: bool,
    /// There were more messages than were read.
    pub(super) cut: bool,
    /// The destination is down or gone.
    pub(super) held_up: bool,
    /// There is a message, and it must wait for a transaction.
    pub(super) held_back: bool,
}

impl TopicRun {
    pub(super) async fn round(
        &self,
        work: &mut [Lane],
        limit: u32,
        busy: bool,
        pass: &mut Pass,
    ) -> Result<Round, StoreError> {
        self.locate(work).await?;
        self.charge(work, pass).await?;
        let read = self.read(work, limit, busy).await?;
        let mut rows = read.rows;
        let mut ledger = Ledger::new(self);
        ledger.follow(read.stretches);
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
        round.fruitless = ledger.noted() == 0;
        ledger.finish(work, pass).await?;
        Ok(round)
    }

    /// Charges the messages over which a lane's last owner died while he published them alone.
    pub(super) async fn charge(
        &self,
        work: &mut [Lane],
        pass: &mut Pass,
    ) -> Result<(), StoreError> {
        for place in 0..work.len() {
            let Some(id) = work[place].charge else {
                continue;
            };
            let number = work[place].number();
            let store = &self.store.store;
            let rows = if let Some(position) = work[place].position {
                // It was decided when it was tried.
                let at = [Reach {
                    lane: number,
                    low: id,
                    position: position.max(id.saturating_sub(1)),
                    upto: id,
                }];
                let rows = store.ring_window(self.topic(), &at, LeaveOut::Nothing, 1, 1);
                rows.await?
            } else {
                let at = [(number, id)];
                let rows = store.window(self.topic(), &at, LeaveOut::Nothing, 1, 1);
                rows.await?
            };
            let row = rows.into_iter().find(|row| row.id == id);
            let mut ledger = Ledger::new(self);
            if row.as_ref().is_some_and(|row| row.stream) {
                ledger.follow([Stretch::new(number, std::iter::once(id), id)]);
            }
            ledger.not_alone(number);
            if let Some(row) = row {
                let now = self.clock.now();
                self.remember(&mut work[place..=place], now).await?;
                let known = work[place].aside.get(&row.key).copied();
                let known = known.filter(|known| known.head == id);
                if let Some(item) = self.item(row, known, Some(&mut ledger)) {
                    self.tell(|| EventKind::Lapsed { sequence: id });
                    let reason = "whoever published it died over it";
                    ledger.note(&item, Outcome::Lapsed, reason, None);
                }
            }
            ledger.finish(work, pass).await?;
            work[place].charge = None;
        }
        Ok(())
    }

    /// What of these rows may be tried now, in order. Of a key whose head is not due nothing is.
    fn sort_out(&self, lane: &Lane, rows: Vec<Row>, ledger: &mut Ledger<'_>) -> Vec<Item> {
        let mut stopped: HashSet<Vec<u8>> = HashSet::new();
        let mut begun: HashSet<Vec<u8>> = HashSet::new();
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            if row.held {
                stopped.insert(row.key.clone());
            }
            if stopped.contains(&row.key) {
                if row.stream {
                    ledger.moves(row.lane, row.id);
                }
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
    pub(super) fn item(
        &self,
        row: Row,
        known: Option<Known>,
        ledger: Option<&mut Ledger<'_>>,
    ) -> Option<Item> {
        let (lane, stream) = (row.lane, row.stream);
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
            stream,
            known: known.is_some_and(|known| known.head <= row.id),
            history,
            delivery: Delivery::new(message, row.id, attempt, created_at),
        })
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
