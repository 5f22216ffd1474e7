//! Sagas in this process: for tests, and for what may be forgotten with it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use buttress_core::Clock;
use buttress_store::{Fence, Key, Lent, Micros, Phase, StoreError, StoreErrorKind, Token};

use super::{
    Alone, Append, Ask, Census, Claimed, Filter, Hand, Line, NewSaga, NewSignal, Record, Sent,
    Signal, Signals, Started, Store, Then, Write,
};
use crate::{SagaId, State};

/// Sagas in this process. They are gone with it: for tests, and for what may be forgotten.
///
/// Its time is a [`Clock`]'s, so a test can move it. It takes no connection of a database: the
/// `…_in` operations refuse all.
pub struct MemoryStore {
    clock: Clock,
    sagas: Mutex<BTreeMap<SagaId, Kept>>,
}

struct Kept {
    record: Record,
    epoch: i64,
    token: Option<Token>,
    alone: bool,
    /// Whether the next signal wakes it, while nobody holds it.
    listens: bool,
    signals: Vec<(Key, String, Signal)>,
    /// How often it was woken.
    woken: u64,
}

impl MemoryStore {
    /// An empty one, by tokio's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::tokio())
    }

    /// An empty one, by a clock of one's own.
    #[must_use]
    pub const fn with_clock(clock: Clock) -> Self {
        Self {
            clock,
            sagas: Mutex::new(BTreeMap::new()),
        }
    }

    fn now(&self) -> Micros {
        Micros::new(0) + Duration::from_nanos(self.clock.now().as_nanos())
    }

    fn sagas(&self) -> MutexGuard<'_, BTreeMap<SagaId, Kept>> {
        self.sagas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Kept {
    fn read(&self, now: Micros) -> Record {
        let mut record = self.record.clone();
        record.now = now;
        record.held = self.token.is_some();
        record.epoch = self.epoch;
        record
    }

    /// A saga that nobody has claimed yet.
    fn new(new: &NewSaga, now: Micros) -> Self {
        let record = Record {
            id: new.id,
            definition: new.definition.clone(),
            business_key: new.business_key.clone(),
            input: new.input.clone(),
            state: State::Running,
            reason: None,
            due_at: now,
            epoch: 0,
            held: false,
            lapses: 0,
            entries: 0,
            created_at: now,
            ended_at: None,
            parent: new.parent,
            now,
            journal: Vec::new(),
        };
        Self {
            record,
            epoch: 0,
            token: None,
            alone: false,
            listens: false,
            signals: Vec::new(),
            woken: 0,
        }
    }

    /// What it is told counts with what it is sent.
    fn count(&self) -> u64 {
        self.signals.len() as u64 + self.woken
    }

    fn wake(&mut self, now: Micros) {
        if self.listens && self.token.is_none() {
            self.record.due_at = self.record.due_at.min(now);
        }
    }

    fn is_held_by(&self, fence: Fence) -> bool {
        self.epoch == fence.epoch() && self.token == Some(*fence.token())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError> {
        let now = self.now();
        let mut sagas = self.sagas();
        if sagas.contains_key(&new.id) {
            return Ok(Started::Running(new.id));
        }
        let rival = sagas.values().map(|kept| &kept.record).find(|it| {
            new.business_key.is_some()
                && new.parent.is_none()
                && it.parent.is_none()
                && it.business_key == new.business_key
                && it.definition.name == new.definition.name
                && !it.state.has_ended()
        });
        if let Some(rival) = rival {
            return Ok(Started::Running(rival.id));
        }
        sagas.insert(new.id, Kept::new(new, now));
        Ok(Started::New(new.id))
    }

    async fn start_in(&self, connection: Lent<'_>, _: &NewSaga) -> Result<Started, StoreError> {
        Err(refused(&connection))
    }

    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError> {
        let now = self.now();
        let mut sagas = self.sagas();
        let mut due: Vec<_> = sagas
            .values_mut()
            .filter(|kept| {
                kept.record.due_at <= now
                    && kept.token.is_some() == ask.lapsed.is_some()
                    && kept.record.state.is_active()
                    && kept.record.definition == ask.definition
            })
            .collect();
        // Those that are due longest, of however many there are.
        let limit = ask.limit as usize;
        if limit > 0 && limit < due.len() {
            due.select_nth_unstable_by_key(limit - 1, |kept| kept.record.due_at);
        }
        let claim = |kept: &mut Kept| {
            let counts = kept.token.is_some() && kept.alone;
            kept.record.lapses += u32::from(counts);
            kept.epoch += 1;
            kept.token = Some(ask.token);
            kept.alone = ask.lapsed == Some(Alone::Yes);
            kept.record.due_at = now + ask.length;
            Claimed {
                fence: Fence::new(kept.epoch, ask.token),
                record: kept.read(now),
            }
        };
        Ok(due
            .into_iter()
            .take(ask.limit as usize)
            .map(claim)
            .collect())
    }

    async fn extend(&self, id: SagaId, fence: Fence, length: Duration) -> Result<bool, StoreError> {
        let now = self.now();
        let mut sagas = self.sagas();
        let Some(kept) = sagas.get_mut(&id).filter(|kept| kept.is_held_by(fence)) else {
            return Ok(false);
        };
        kept.record.due_at = now + length;
        Ok(true)
    }

    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError> {
        Ok(append(&mut self.sagas(), self.now(), id, by, write))
    }

    async fn append_all(&self, writes: &[Append]) -> Result<Vec<bool>, StoreError> {
        let (now, mut sagas) = (self.now(), self.sagas());
        let write = |it: &Append| {
            !it.write.reaches_others()
                && append(&mut sagas, now, it.id, Hand::Holder(it.fence), &it.write)
        };
        Ok(writes.iter().map(write).collect())
    }

    async fn append_in(
        &self,
        connection: Lent<'_>,
        _: SagaId,
        _: Hand,
        _: &Write,
    ) -> Result<bool, StoreError> {
        Err(refused(&connection))
    }

    async fn signal(&self, signal: &NewSignal) -> Result<Sent, StoreError> {
        let now = self.now();
        let mut sagas = self.sagas();
        let Some(kept) = sagas.get_mut(&signal.saga) else {
            return Ok(Sent::Nobody);
        };
        if kept.signals.iter().any(|it| it.0 == signal.key) {
            return Ok(Sent::Known);
        }
        if !matches!(kept.record.state, State::Running | State::NeedsAttention) {
            return Ok(Sent::Over(kept.record.state));
        }
        if kept.signals.len() >= signal.most as usize {
            return Ok(Sent::Full);
        }
        let payload = signal.payload.clone();
        let sent = Signal { at: now, payload };
        kept.signals
            .push((signal.key.clone(), signal.name.clone(), sent));
        kept.wake(now);
        Ok(Sent::New)
    }

    async fn signal_in(&self, connection: Lent<'_>, _: &NewSignal) -> Result<Sent, StoreError> {
        Err(refused(&connection))
    }

    async fn signals(&self, id: SagaId, name: &str) -> Result<Signals, StoreError> {
        let sagas = self.sagas();
        let Some(kept) = sagas.get(&id) else {
            return Ok(Signals::default());
        };
        let mut named = kept.signals.iter().filter(|it| it.1 == name);
        Ok(Signals {
            count: kept.count(),
            first: named.next().map(|it| it.2.clone()),
        })
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        let now = self.now();
        Ok(self.sagas().get(&id).map(|kept| kept.read(now)))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        let now = self.now();
        let sagas = self.sagas();
        let wanted = |kept: &&Kept| {
            let it = &kept.record;
            filter
                .name
                .as_ref()
                .is_none_or(|name| *name == it.definition.name)
                && filter.state.is_none_or(|state| state == it.state)
                && (filter.parent.is_none() || filter.parent == it.parent)
                && filter.before.is_none_or(|before| it.id < before)
                && (filter.business_key.is_none() || filter.business_key == it.business_key)
        };
        let listed = sagas.values().rev().filter(wanted);
        Ok(listed
            .take(filter.limit as usize)
            .map(|kept| Record {
                journal: Vec::new(),
                ..kept.read(now)
            })
            .collect())
    }

    async fn census(&self) -> Result<Vec<Census>, StoreError> {
        let now = self.now();
        let mut counted: Vec<Census> = Vec::new();
        for kept in self.sagas().values() {
            let it = &kept.record;
            let overdue = if it.state.is_active() {
                now.saturating_since(it.due_at)
            } else {
                Duration::ZERO
            };
            let same = counted
                .iter_mut()
                .find(|line| line.definition == it.definition && line.state == it.state);
            match same {
                Some(line) => {
                    line.count += 1;
                    line.overdue = line.overdue.max(overdue);
                }
                None => counted.push(Census {
                    definition: it.definition.clone(),
                    state: it.state,
                    count: 1,
                    overdue,
                }),
            }
        }
        Ok(counted)
    }

    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        let before = self.now() - age;
        let mut sagas = self.sagas();
        let old: Vec<_> = sagas
            .values()
            .filter(|kept| kept.record.ended_at.is_some_and(|ended| ended < before))
            .filter(|kept| !kept.record.parent.is_some_and(|it| sagas.contains_key(&it)))
            .map(|kept| kept.record.id)
            .take(limit as usize)
            .collect();
        for id in &old {
            sagas.remove(id);
        }
        Ok(old.len() as u64)
    }
}

/// Writes to one journal, if it may.
fn append(
    sagas: &mut BTreeMap<SagaId, Kept>,
    now: Micros,
    id: SagaId,
    by: Hand,
    write: &Write,
) -> bool {
    let Some(kept) = sagas.get_mut(&id) else {
        return false;
    };
    let may = match by {
        Hand::Holder(fence) => kept.is_held_by(fence),
        Hand::Operator => true,
    };
    if !may || kept.record.entries != write.expected {
        return false;
    }
    if by == Hand::Operator {
        kept.epoch += 1;
        kept.token = None;
        kept.record.due_at = now;
    }
    let epoch = kept.epoch;
    let lines = write.entries.iter().cloned();
    let lines = lines.map(|entry| Line {
        at: now,
        epoch,
        entry,
    });
    kept.record.journal.extend(lines);
    kept.record.entries += write.entries.len() as u64;
    kept.record.state = write.state;
    kept.record.reason.clone_from(&write.reason);
    if write.progress {
        kept.alone = false;
        kept.record.lapses = 0;
    }
    match write.then {
        Then::Keep => {}
        Then::Release(after) => {
            kept.token = None;
            kept.listens = false;
            kept.record.due_at = now + after;
        }
        Then::Listen { after, seen } => {
            kept.token = None;
            kept.listens = true;
            let unseen = kept.count() > seen;
            kept.record.due_at = if unseen { now } else { now + after };
        }
    }
    if !write.state.is_active() {
        kept.token = None;
    }
    kept.record.ended_at = write.state.has_ended().then_some(now);
    for new in &write.starts {
        sagas.entry(new.id).or_insert_with(|| Kept::new(new, now));
    }
    if let Some(parent) = write.wakes.and_then(|it| sagas.get_mut(&it)) {
        parent.woken += 1;
        parent.wake(now);
    }
    true
}

fn refused(connection: &Lent<'_>) -> StoreError {
    tracing::error!(found = %connection.dialect(), "a saga in memory was given a connection");
    StoreError::new(StoreErrorKind::Misused, Phase::Connect)
}
