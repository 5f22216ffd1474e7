//! What became of a turn's messages, until it is settled.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use buttress_core::{Class, Moment};
use buttress_store::StoreError;
use tokio::time::sleep;

use super::{
    Pass,
    lanes::{Known, Lane},
    ring::{Fate, Stretch},
    run::TopicRun,
    send::Item,
};
use crate::{
    AfterDeath, EventKind,
    machine::{Outcome, Step, judge},
    policy::Retention,
    store::{Died, Held, SetAside, Settlement, Until},
};

/// The pauses between attempts to settle.
const AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];
/// A key that waits so long is looked at a little later, so that it is due by the server's clock.
const LATER: Duration = Duration::from_millis(2);

pub(super) struct Ledger<'r> {
    run: &'r TopicRun,
    settlement: Settlement,
    /// What was read of the stream, and what became of it.
    stretches: Vec<Stretch>,
    /// When the first entry was made.
    since: Option<Moment>,
    noted: usize,
}

impl<'r> Ledger<'r> {
    pub(super) fn new(run: &'r TopicRun) -> Self {
        Self {
            run,
            settlement: Settlement::default(),
            stretches: Vec::new(),
            since: None,
            noted: 0,
        }
    }

    /// How much was written into it so far.
    pub(super) const fn noted(&self) -> usize {
        self.noted
    }

    /// What was read of the stream.
    pub(super) fn follow(&mut self, stretches: impl IntoIterator<Item = Stretch>) {
        self.stretches.extend(stretches);
    }

    /// A message of the stream whose key is set aside.
    pub(super) fn moves(&mut self, lane: i16, id: i64) {
        self.noted += 1;
        self.fate(lane, id, Fate::Moves);
    }

    fn fate(&mut self, lane: i16, id: i64, fate: Fate) {
        if let Some(stretch) = self.stretches.iter_mut().find(|it| it.lane == lane) {
            stretch.set(id, fate);
        }
    }

    fn write(&mut self) -> &mut Settlement {
        self.noted += 1;
        self.since.get_or_insert(self.run.clock.now());
        &mut self.settlement
    }

    pub(super) fn set_aside(&mut self, aside: SetAside) {
        self.write().aside.push(aside);
    }

    pub(super) fn not_alone(&mut self, lane: i16) {
        self.write().not_alone.push(lane);
    }

    /// A message that is no message: nobody can be sent it.
    pub(super) fn unreadable(&mut self, lane: i16, id: i64, key: Vec<u8>, known: bool) {
        let history = crate::machine::History::default();
        let error = "its attributes cannot be read".to_owned();
        self.died(lane, id, key, known, history, error);
    }

    fn died(
        &mut self,
        lane: i16,
        id: i64,
        key: Vec<u8>,
        known: bool,
        history: crate::machine::History,
        error: String,
    ) {
        let then = self.run.policy().after_death;
        self.fate(lane, id, Fate::Noted);
        let settlement = self.write();
        match then {
            AfterDeath::Block => settlement.aside.push(SetAside {
                lane,
                key,
                head: id,
                history,
                until: Until::Told,
                error: error.clone(),
            }),
            _ if known => settlement.forget.push((lane, key)),
            _ => {}
        }
        settlement.died.push(Died {
            lane,
            id,
            history,
            error,
            then,
        });
    }

    /// Notes what became of a message. `told`: when the destination wants it again.
    pub(super) fn note(
        &mut self,
        item: &Item,
        outcome: Outcome,
        reason: &str,
        told: Option<Duration>,
    ) {
        let (lane, id) = (item.lane, item.id);
        match judge(outcome, item.history, &self.run.policy().limits()) {
            Step::Done => {
                self.fate(lane, id, Fate::Delivered);
                let settlement = self.write();
                if !item.stream {
                    settlement.delivered.push((lane, id));
                }
                if item.known {
                    settlement.forget.push((lane, item.key.clone()));
                }
            }
            Step::Wait { history, nth } => {
                let wait = self.run.delay(&self.run.policy().backoff, nth, told);
                self.fate(lane, id, Fate::Noted);
                self.write().aside.push(SetAside {
                    lane,
                    key: item.key.clone(),
                    head: id,
                    history,
                    until: Until::After(wait),
                    error: reason.to_owned(),
                });
            }
            Step::Die { history } => {
                let key = item.key.clone();
                self.died(lane, id, key, item.known, history, reason.to_owned());
            }
            Step::Leave => {}
        }
    }

    /// Settles, if the first entry has waited long enough.
    pub(super) async fn flush(
        &mut self,
        work: &mut [Lane],
        pass: &mut Pass,
    ) -> Result<(), StoreError> {
        let now = self.run.clock.now();
        let waited = self.since.map(|since| now.saturating_since(since));
        if waited.is_some_and(|waited| waited >= self.run.relay.flush) {
            self.settle(work, pass).await?;
        }
        Ok(())
    }

    /// Writes it all in one commit, again and again while the lanes are held: a settlement that
    /// was done already is done again without harm. What is about messages of the stream waits
    /// until all before them has come to something.
    pub(super) async fn settle(
        &mut self,
        work: &mut [Lane],
        pass: &mut Pass,
    ) -> Result<(), StoreError> {
        self.settle_as(false, work, pass).await
    }

    /// The same when the turn is done.
    pub(super) async fn finish(
        &mut self,
        work: &mut [Lane],
        pass: &mut Pass,
    ) -> Result<(), StoreError> {
        self.settle_as(true, work, pass).await
    }

    /// What can be written now; what cannot stays.
    fn take(&mut self, done: bool) -> Settlement {
        let mut settlement = std::mem::take(&mut self.settlement);
        for stretch in &self.stretches {
            if let Some(upto) = stretch.upto(done) {
                settlement.passed.push((stretch.lane, upto));
                let delivered = stretch.delivered(upto);
                let delivered = delivered.map(|id| (stretch.lane, id));
                settlement.streamed.extend(delivered);
            }
        }
        let passed: HashMap<i16, i64> = settlement.passed.iter().copied().collect();
        let waits = |lane: i16, id: i64| {
            let stretch = self.stretches.iter().find(|it| it.lane == lane);
            stretch.is_some_and(|it| it.contains(id))
                && passed.get(&lane).is_none_or(|upto| id > *upto)
        };
        let (later, now) = settlement
            .aside
            .into_iter()
            .partition(|it| waits(it.lane, it.head));
        (self.settlement.aside, settlement.aside) = (later, now);
        let (later, now) = settlement
            .died
            .into_iter()
            .partition(|it| waits(it.lane, it.id));
        (self.settlement.died, settlement.died) = (later, now);
        settlement
    }

    async fn settle_as(
        &mut self,
        done: bool,
        work: &mut [Lane],
        pass: &mut Pass,
    ) -> Result<(), StoreError> {
        let since = self.since.take();
        let mut settlement = self.take(done);
        if !self.settlement.aside.is_empty() || !self.settlement.died.is_empty() {
            self.since = since.map(|_| self.run.clock.now());
        }
        if settlement.is_empty() {
            return Ok(());
        }
        settlement.keep = matches!(self.run.policy().retention, Retention::Keep(_));
        settlement.held = held(work, &settlement);
        let store = &self.run.store.store;
        let mut pause = AGAIN[0];
        let mine = loop {
            let error = match store.settle(self.run.topic(), settlement.clone()).await {
                Ok(mine) => break mine,
                Err(error) => error,
            };
            self.run.failed("settle", &error);
            let now = self.run.clock.now();
            let still = |held: &Held| self.run.lanes().is_trusted(*held, now);
            if error.class() == Class::Final || !settlement.held.iter().any(still) {
                return Err(error);
            }
            sleep(error.retry_after().unwrap_or_default().max(pause)).await;
            pause = (pause * 2).min(AGAIN[1]);
        };
        self.learn(work, &settlement, &mine, pass);
        self.passed(work, &settlement, &mine);
        Ok(())
    }

    /// How far the stream is settled is known from here on.
    fn passed(&mut self, work: &mut [Lane], settlement: &Settlement, mine: &[i16]) {
        for (number, upto) in &settlement.passed {
            if !mine.contains(number) {
                self.stretches.retain(|it| it.lane != *number);
                continue;
            }
            let stretches = self.stretches.iter_mut();
            let moved = stretches
                .filter(|it| it.lane == *number)
                .map(|it| it.settled(*upto));
            let moved = u64::try_from(moved.sum::<usize>()).unwrap_or(u64::MAX);
            self.run.moved.fetch_add(moved, Ordering::Relaxed);
            if let Some(lane) = work.iter_mut().find(|it| it.number() == *number) {
                // What was moved is read from there, if nothing holds it.
                let from = lane.position.unwrap_or_default().saturating_add(1);
                lane.low = lane.low.min(from);
                lane.position = lane.position.max(Some(*upto));
            }
        }
    }

    /// What was settled is known from here on.
    fn learn(&self, work: &mut [Lane], settlement: &Settlement, mine: &[i16], pass: &mut Pass) {
        let run = self.run;
        let is_mine = |lane: i16| mine.contains(&lane);
        let delivered = settlement.delivered.iter().chain(&settlement.streamed);
        let delivered = delivered.map(|(lane, _)| *lane);
        let aside = settlement.aside.iter().map(|it| it.lane);
        let died = settlement.died.iter().map(|it| it.lane);
        let count = |lanes: &mut dyn Iterator<Item = i16>| lanes.filter(|it| is_mine(*it)).count();
        let done = Pass {
            delivered: count(&mut delivered.clone()),
            set_aside: count(&mut aside.clone()),
            died: count(&mut died.clone()),
            stale: delivered.chain(died).filter(|it| !is_mine(*it)).count(),
            held_up: 0,
        };
        pass.add(done);
        for held in &settlement.held {
            if !is_mine(held.lane) {
                run.lanes().lost(*held);
            }
        }
        let now = run.clock.now();
        for (lane, key) in &settlement.forget {
            if let Some(lane) = work.iter_mut().find(|it| it.number() == *lane) {
                lane.aside.remove(key);
            }
        }
        for aside in &settlement.aside {
            if let Some(lane) = work.iter_mut().find(|it| it.number() == aside.lane) {
                let known = Known {
                    head: aside.head,
                    history: aside.history,
                };
                lane.aside.insert(aside.key.clone(), known);
                if let Until::After(wait) = aside.until {
                    let due = now.saturating_add(wait).saturating_add(LATER);
                    lane.full_at = lane.full_at.min(due);
                }
            }
        }
        if done.delivered > 0 {
            run.tell(|| EventKind::Delivered {
                messages: done.delivered,
            });
        }
        if done.set_aside > 0 {
            run.tell(|| EventKind::SetAside {
                keys: done.set_aside,
            });
        }
        if done.died > 0 {
            run.tell(|| EventKind::Died {
                messages: done.died,
            });
        }
        if done.stale > 0 {
            run.tell(|| EventKind::Stale {
                messages: done.stale,
            });
        }
    }
}

impl Settlement {
    fn is_empty(&self) -> bool {
        self.delivered.is_empty()
            && self.forget.is_empty()
            && self.aside.is_empty()
            && self.died.is_empty()
            && self.not_alone.is_empty()
            && self.passed.is_empty()
    }
}

/// The claims under which it is written, in rising order.
fn held(work: &[Lane], settlement: &Settlement) -> Vec<Held> {
    let delivered = settlement.delivered.iter().map(|(lane, _)| *lane);
    let aside = settlement.aside.iter().map(|it| it.lane);
    let died = settlement.died.iter().map(|it| it.lane);
    let alone = settlement.not_alone.iter().copied();
    let passed = settlement.passed.iter().map(|(lane, _)| *lane);
    let lanes = delivered.chain(aside).chain(died).chain(alone);
    let mut lanes: Vec<i16> = lanes.chain(passed).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let held = |lane: i16| work.iter().find(|it| it.number() == lane).map(|it| it.held);
    lanes.into_iter().filter_map(held).collect()
}
