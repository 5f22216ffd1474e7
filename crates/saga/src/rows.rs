//! Rows as the databases return them, and what they mean.

use std::time::Duration;

use buttress_store::{Fence, Key, Micros, Phase, StoreError, StoreErrorKind};

use crate::store::{
    Ask, Census, Claimed, DefinitionKey, Hand, Line, Record, Sent, Signal, Signals, Then,
};
use crate::{Entry, SagaId, State};

/// The columns of a saga, in the order in which every dialect selects them:
/// `id, name, version, shape, business_key, input, state, reason, due_at, epoch, held, lapses,
/// entries, created_at, ended_at, now`.
pub(crate) type SagaRow = (
    Vec<u8>,
    String,
    i64,
    Vec<u8>,
    Option<Vec<u8>>,
    Vec<u8>,
    i64,
    Option<String>,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    Option<i64>,
    i64,
);

/// `saga_id, at, epoch, entry`.
pub(crate) type LineRow = (Vec<u8>, i64, i64, Vec<u8>);

/// How many, and of the first of a name `at, payload`.
pub(crate) type SignalsRow = (i64, Option<i64>, Option<Vec<u8>>);

/// `name, version, shape, state`, how many, the least `due_at`, now.
pub(crate) type CensusRow = (String, i64, Vec<u8>, i64, i64, i64, i64);

pub(crate) fn record(row: SagaRow) -> Result<Record, StoreError> {
    let key = row.4.map(Key::new).transpose().map_err(|_| broken())?;
    Ok(Record {
        id: id(row.0)?,
        definition: definition(row.1, row.2, row.3)?,
        business_key: key,
        input: row.5,
        state: State::of_code(row.6).ok_or_else(broken)?,
        reason: row.7,
        due_at: Micros::new(row.8),
        epoch: row.9,
        held: row.10 != 0,
        lapses: u32::try_from(row.11).map_err(|_| broken())?,
        entries: u64::try_from(row.12).map_err(|_| broken())?,
        created_at: Micros::new(row.13),
        ended_at: row.14.map(Micros::new),
        now: Micros::new(row.15),
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

/// After how many microseconds the saga is due, if its claim is given back.
pub(crate) fn released(then: Then) -> Option<i64> {
    match then {
        Then::Keep => None,
        Then::Release(after) | Then::Listen { after, .. } => Some(micros(after)),
    }
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
