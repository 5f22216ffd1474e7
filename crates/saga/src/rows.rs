//! Rows as the databases return them, and what they mean.

use std::time::Duration;

use buttress_store::{Fence, Key, Micros, Phase, StoreError, StoreErrorKind};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use crate::store::{
    Ask, Census, Claimed, DefinitionKey, Hand, Line, Record, Sent, Signal, Signals, Then,
};
use crate::{Entry, SagaId, State};

/// A saga's row. Every dialect selects its columns in the order in which they stand here, and the
/// time of the look last.
pub(crate) struct SagaRow {
    id: Vec<u8>,
    name: String,
    version: i64,
    shape: Vec<u8>,
    business_key: Option<Vec<u8>>,
    input: Vec<u8>,
    state: i64,
    reason: Option<String>,
    due_at: i64,
    epoch: i64,
    held: i64,
    lapses: i64,
    entries: i64,
    created_at: i64,
    ended_at: Option<i64>,
    parent: Option<Vec<u8>>,
    now: i64,
}

impl<'r, R> FromRow<'r, R> for SagaRow
where
    R: Row,
    usize: ColumnIndex<R>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            version: row.try_get(2)?,
            shape: row.try_get(3)?,
            business_key: row.try_get(4)?,
            input: row.try_get(5)?,
            state: row.try_get(6)?,
            reason: row.try_get(7)?,
            due_at: row.try_get(8)?,
            epoch: row.try_get(9)?,
            held: row.try_get(10)?,
            lapses: row.try_get(11)?,
            entries: row.try_get(12)?,
            created_at: row.try_get(13)?,
            ended_at: row.try_get(14)?,
            parent: row.try_get(15)?,
            now: row.try_get(16)?,
        })
    }
}

/// `saga_id, at, epoch, entry`.
pub(crate) type LineRow = (Vec<u8>, i64, i64, Vec<u8>);

/// How many, and of the first of a name `at, payload`.
pub(crate) type SignalsRow = (i64, Option<i64>, Option<Vec<u8>>);

/// `name, version, shape, state`, how many, the least `due_at`, now.
pub(crate) type CensusRow = (String, i64, Vec<u8>, i64, i64, i64, i64);

pub(crate) fn record(row: SagaRow) -> Result<Record, StoreError> {
    let key = row.business_key.map(Key::new).transpose();
    Ok(Record {
        id: id(row.id)?,
        definition: definition(row.name, row.version, row.shape)?,
        business_key: key.map_err(|_| broken())?,
        input: row.input,
        state: State::of_code(row.state).ok_or_else(broken)?,
        reason: row.reason,
        due_at: Micros::new(row.due_at),
        epoch: row.epoch,
        held: row.held != 0,
        lapses: u32::try_from(row.lapses).map_err(|_| broken())?,
        entries: u64::try_from(row.entries).map_err(|_| broken())?,
        created_at: Micros::new(row.created_at),
        ended_at: row.ended_at.map(Micros::new),
        parent: row.parent.map(id).transpose()?,
        now: Micros::new(row.now),
        journal: Vec::new(),
    })
}

/// Gives each record its lines, which come in order.
pub(crate) fn give(records: &mut [Record], lines: Vec<LineRow>) -> Result<(), StoreError> {
    for (saga, at, epoch, entry) in lines {
        let id = id(saga)?;
        let entry: Entry = serde_json::from_slice(&entry).map_err(|_| broken())?;
        if let Some(record) = records.iter_mut().find(|record| record.id == id) {
            record.journal.push(Line {
                at: Micros::new(at),
                epoch,
                entry,
            });
        }
    }
    for record in records {
        // What was appended between the two reads belongs to a later state of the row.
        let entries = usize::try_from(record.entries).unwrap_or(usize::MAX);
        record.journal.truncate(entries);
    }
    Ok(())
}

/// The sagas without those that were pruned between the read of their row and that of their lines.
pub(crate) fn whole(mut records: Vec<Record>) -> Vec<Record> {
    records.retain(|record| record.journal.len() as u64 == record.entries);
    records
}

pub(crate) fn census(row: CensusRow) -> Result<Census, StoreError> {
    let state = State::of_code(row.3).ok_or_else(broken)?;
    let overdue = Micros::new(row.6).saturating_since(Micros::new(row.5));
    Ok(Census {
        definition: definition(row.0, row.1, row.2)?,
        state,
        count: u64::try_from(row.4).map_err(|_| broken())?,
        overdue: if state.is_active() {
            overdue
        } else {
            Duration::ZERO
        },
    })
}

pub(crate) fn id(bytes: Vec<u8>) -> Result<SagaId, StoreError> {
    let bytes = bytes.try_into().map_err(|_| broken())?;
    Ok(SagaId::from_bytes(bytes))
}

#[cfg(feature = "mysql")]
pub(crate) fn ids(rows: impl Iterator<Item = Vec<u8>>) -> Result<Vec<SagaId>, StoreError> {
    rows.map(id).collect()
}

/// Ids, each once, in an array of JSON of hexadecimal digits.
#[cfg(feature = "mysql")]
pub(crate) fn hexadecimal(ids: &[SagaId]) -> Result<String, StoreError> {
    let once: std::collections::BTreeSet<String> = ids
        .iter()
        .map(|id| format!("{:032x}", u128::from_be_bytes(*id.as_bytes())))
        .collect();
    serde_json::to_string(&once)
        .map_err(|_| StoreError::new(StoreErrorKind::Misused, Phase::Connect))
}

/// The lines of a write, each as it is stored, in an array of JSON.
#[cfg(feature = "sqlite")]
pub(crate) fn texts(entries: &[Entry]) -> Result<String, StoreError> {
    let texts = entries.iter().map(serde_json::to_string);
    let texts: Result<Vec<_>, _> = texts.collect();
    let array = texts.and_then(|texts| serde_json::to_string(&texts));
    array.map_err(|_| StoreError::new(StoreErrorKind::Misused, Phase::Connect))
}

/// As a line is stored.
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) fn text(entry: &Entry) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(entry).map_err(|_| StoreError::new(StoreErrorKind::Misused, Phase::Connect))
}

/// The claim on whose behalf something is written, if it is one.
pub(crate) const fn fence(by: Hand) -> Option<Fence> {
    match by {
        Hand::Holder(fence) => Some(fence),
        Hand::Operator => None,
    }
}

/// After how many microseconds the saga is due, if its claim is given back. Databases add it to
/// their time, and refuse what is no number of theirs: 146,000 years are enough.
pub(crate) fn released(then: Then) -> Option<i64> {
    match then {
        Then::Keep => None,
        Then::Release(after) | Then::Listen { after, .. } => Some(micros(after).min(i64::MAX / 2)),
    }
}

/// Why a saga was turned back or parked, as far as MySQL's column goes. The journal has all of it.
#[cfg(feature = "mysql")]
pub(crate) fn word(reason: Option<&str>) -> Option<String> {
    let plain = |it: char| if it.is_ascii() { it } else { '?' };
    reason.map(|reason| reason.chars().map(plain).take(64).collect())
}

/// How many signals were seen, if it is given back to be woken by the next.
pub(crate) fn seen(then: Then) -> Option<i64> {
    match then {
        Then::Keep | Then::Release(_) => None,
        Then::Listen { seen, .. } => Some(i64::try_from(seen).unwrap_or(i64::MAX)),
    }
}

/// What was sent: how many, and the first of a name.
pub(crate) fn signals(row: SignalsRow) -> Result<Signals, StoreError> {
    let first = row.1.zip(row.2);
    Ok(Signals {
        count: u64::try_from(row.0).map_err(|_| broken())?,
        first: first.map(|(at, payload)| Signal {
            at: Micros::new(at),
            payload,
        }),
    })
}

/// Why a signal was not kept, by what is there: whether one of its key is, and the saga's state.
pub(crate) fn not_sent(known: bool, state: Option<i64>) -> Result<Option<Sent>, StoreError> {
    let Some(code) = state else {
        return Ok(Some(Sent::Nobody));
    };
    let state = State::of_code(code).ok_or_else(broken)?;
    Ok(match state {
        _ if known => Some(Sent::Known),
        State::Running | State::NeedsAttention => None,
        state => Some(Sent::Over(state)),
    })
}

/// All were claimed by one token; the epoch is each one's own.
pub(crate) fn claimed(ask: &Ask, records: Vec<Record>) -> Vec<Claimed> {
    let claim = |record: Record| Claimed {
        fence: Fence::new(record.epoch, ask.token),
        record,
    };
    records.into_iter().map(claim).collect()
}

/// How many lines, as databases count.
pub(crate) fn count(lines: usize) -> i64 {
    i64::try_from(lines).unwrap_or(i64::MAX)
}

/// The place of a line of a write.
pub(crate) fn place(expected: u64, line: usize) -> i64 {
    i64::try_from(expected)
        .unwrap_or(i64::MAX)
        .saturating_add(count(line))
}

pub(crate) fn micros(duration: Duration) -> i64 {
    (Micros::new(0) + duration).get()
}

fn definition(name: String, version: i64, shape: Vec<u8>) -> Result<DefinitionKey, StoreError> {
    Ok(DefinitionKey {
        name,
        version: u32::try_from(version).map_err(|_| broken())?,
        shape: shape.try_into().map_err(|_| broken())?,
    })
}

/// What is stored is not what was written.
fn broken() -> StoreError {
    StoreError::new(StoreErrorKind::Broken, Phase::Read)
}
