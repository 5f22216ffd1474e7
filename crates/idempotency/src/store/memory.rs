//! Records in this process: for tests, and for a service that is one process and may forget.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use buttress_core::Clock;
use buttress_store::{Fence, Micros, StoreError};
use bytes::Bytes;

use super::{
    Adopted, Adoption, Answer, Checkpoint, Decision, Keeps, Postponement, Record, Request, State,
    Store, Unfinished, decide, holds,
};
use crate::ScopedKey;

/// Records in this process. Clones are the same store. What it holds is gone with the process, and
/// another process knows nothing of it.
///
/// It forgets what has expired when it is reaped, or when it has doubled since it last looked.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Clock,
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Default)]
struct Shelf {
    records: HashMap<ScopedKey, Record>,
    /// What was asked for under keys that are not done.
    requests: HashMap<ScopedKey, Kept>,
    /// With so many records it is looked through for what has expired.
    sweep_at: usize,
}

/// A request, and when and how often it is driven.
struct Kept {
    request: Bytes,
    /// `None` when it is parked.
    due_at: Option<Micros>,
    drives: u32,
    driver: String,
}

/// Below this many records nothing is looked through.
const FEW: usize = 1024;

impl MemoryStore {
    /// An empty one, by tokio's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::tokio())
    }

    /// An empty one, by this clock.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            clock,
            shelf: Arc::default(),
        }
    }

    fn now(&self) -> Micros {
        let micros = self.clock.now().as_nanos() / 1000;
        Micros::new(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Changes a record that is still `fence`'s and not done.
    fn open(&mut self, key: &ScopedKey, fence: Fence, change: impl FnOnce(&mut Record)) -> bool {
        let record = self.records.get_mut(key);
        match record.filter(|it| it.fence == fence && !matches!(it.state, State::Done(_))) {
            Some(record) => {
                change(record);
                true
            }
            None => false,
        }
    }

    /// Removes it, or frees it where it must stay.
    fn free(&mut self, key: &ScopedKey, fence: Fence, now: Micros) -> bool {
        let mut passed = false;
        let open = self.open(key, fence, |record| {
            record.state = State::unknown(now);
            passed = !record.progress.is_empty();
        });
        if open && fence.epoch() == 1 && !passed {
            self.records.remove(key);
            self.requests.remove(key);
        }
        open
    }

    fn insert(&mut self, key: ScopedKey, record: Record, now: Micros) {
        self.records.insert(key, record);
        if self.records.len() >= self.sweep_at.max(FEW) {
            self.records.retain(|_, record| record.expires_at > now);
            let records = &self.records;
            self.requests.retain(|key, _| records.contains_key(key));
            self.sweep_at = self.records.len().saturating_mul(2);
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        let now = self.now();
        let mut shelf = self.shelf();
        let fence = match decide(shelf.records.get(request.key), request, now) {
            Decision::Say(answer) => return Ok(answer),
            Decision::Claim(fence) => fence,
        };
        let lease_until = now + request.lease;
        let mut progress = Bytes::new();
        if fence.epoch() == 1 {
            shelf.requests.remove(request.key);
        } else if let Some(record) = shelf.records.get(request.key) {
            progress = record.progress.clone();
        }
        if let Some(payload) = request.payload {
            let kept = shelf.requests.entry(request.key.clone());
            kept.or_insert_with(|| Kept {
                request: Bytes::copy_from_slice(payload),
                due_at: Some(lease_until),
                drives: 0,
                driver: request.driver.to_owned(),
            });
        }
        let state = State::running(lease_until);
        let expires_at = lease_until + request.retention;
        let record = Record::new(fence, request.fingerprint, state, expires_at);
        let record = record.with_progress(progress.clone());
        shelf.insert(request.key.clone(), record, now);
        Ok(Answer::claimed(fence, progress))
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let lease_until = self.now() + lease;
        Ok(self.shelf().open(key, fence, |record| {
            record.state = State::running(lease_until);
            record.expires_at = record.expires_at.max(lease_until + retention);
        }))
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let expires_at = self.now() + retention;
        let mut shelf = self.shelf();
        let record = shelf.records.get_mut(key);
        let Some(record) = record.filter(|record| holds(Some(record), fence)) else {
            return Ok(false);
        };
        record.state = State::Done(outcome.clone());
        record.expires_at = record.expires_at.max(expires_at);
        record.progress = Bytes::new();
        shelf.requests.remove(key);
        Ok(true)
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        let now = self.now();
        let mut shelf = self.shelf();
        let open = shelf.free(key, fence, now);
        if open {
            shelf.requests.remove(key);
        }
        Ok(open)
    }

    async fn hand_back(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        let now = self.now();
        let mut shelf = self.shelf();
        Ok(shelf.free(key, fence, now))
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        Ok(self.shelf().open(key, fence, |record| {
            if let State::Running { lease_until } = record.state {
                record.state = State::unknown(lease_until);
            }
        }))
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        let now = self.now();
        let mut left = limit;
        let mut shelf = self.shelf();
        let Shelf {
            records, requests, ..
        } = &mut *shelf;
        records.retain(|key, record| {
            let goes = left > 0 && record.expires_at <= now;
            left -= u32::from(goes);
            if goes {
                requests.remove(key);
            }
            !goes
        });
        Ok(u64::from(limit - left))
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        let now = self.now();
        let shelf = self.shelf();
        let mut found: Vec<_> = shelf
            .records
            .iter()
            .filter(|(_, record)| record.expires_at > now)
            .filter_map(|(key, record)| match record.state {
                State::Running { lease_until } | State::Unknown { lease_until }
                    if lease_until + idle <= now =>
                {
                    let idle = now.saturating_since(lease_until);
                    let found = Unfinished::new(key.clone(), record.fence.epoch(), idle);
                    Some(match shelf.requests.get(key) {
                        Some(kept) => found.driven(kept.drives, kept.due_at.is_none()),
                        None => found,
                    })
                }
                _ => None,
            })
            .collect();
        found.sort_by_key(|it| std::cmp::Reverse(it.idle));
        found.truncate(limit as usize);
        Ok(found)
    }

    fn keeps(&self) -> Keeps {
        Keeps::Requests
    }

    async fn checkpoint(
        &self,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let mut fits = false;
        let mut shelf = self.shelf();
        let open = shelf.open(key, fence, |record| {
            let progress = &mut record.progress;
            fits = progress.len() == checkpoint.before || *progress == checkpoint.after;
            if fits {
                *progress = checkpoint.after.clone();
            }
        });
        if let Some(kept) = shelf.requests.get_mut(key).filter(|_| open && fits) {
            kept.drives = 0;
            kept.due_at.get_or_insert(now);
        }
        Ok(open && fits)
    }

    async fn adopt(&self, adoption: &Adoption) -> Result<Option<Adopted>, StoreError> {
        let now = self.now();
        let mut shelf = self.shelf();
        let Shelf {
            records, requests, ..
        } = &mut *shelf;
        let due = requests.iter().filter_map(|(key, kept)| {
            let (due_at, record) = (kept.due_at?, records.get(key)?);
            let (State::Running { lease_until } | State::Unknown { lease_until }) = record.state
            else {
                return None;
            };
            let idle = lease_until + adoption.idle <= now;
            let due = due_at <= now && idle && kept.driver == adoption.driver;
            (due && record.expires_at > now).then_some((due_at, key))
        });
        let Some((_, key)) = due.min_by_key(|(due_at, _)| *due_at) else {
            return Ok(None);
        };
        let key = key.clone();
        let (Some(record), Some(kept)) = (records.get_mut(&key), requests.get_mut(&key)) else {
            return Ok(None);
        };
        let lease_until = now + adoption.lease;
        let epoch = record.fence.epoch().saturating_add(1);
        record.fence = Fence::new(epoch, adoption.token);
        record.state = State::running(lease_until);
        record.expires_at = record.expires_at.max(lease_until + adoption.retention);
        kept.drives = kept.drives.saturating_add(1);
        kept.due_at = (kept.drives < adoption.last_drive).then_some(lease_until);
        let bytes = [kept.request.clone(), record.progress.clone()];
        let (fence, drives) = (record.fence, kept.drives);
        let adopted = Adopted::new(key, fence, record.fingerprint, bytes, drives);
        Ok(Some(adopted))
    }

    async fn postpone(
        &self,
        key: &ScopedKey,
        fence: Fence,
        to: Postponement,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let mut shelf = self.shelf();
        let open = shelf.open(key, fence, |record| {
            if to.free {
                record.state = State::unknown(now);
            }
        });
        if let Some(kept) = shelf.requests.get_mut(key).filter(|_| open) {
            kept.due_at = to.delay.map(|delay| now + delay);
            kept.drives -= u32::from(!to.counts && kept.drives > 0);
        }
        Ok(open)
    }

    async fn unpark(&self, key: &ScopedKey) -> Result<bool, StoreError> {
        let now = self.now();
        let mut shelf = self.shelf();
        let lives = shelf.records.get(key).is_some_and(|it| it.expires_at > now);
        let Some(kept) = shelf.requests.get_mut(key).filter(|_| lives) else {
            return Ok(false);
        };
        (kept.due_at, kept.drives) = (Some(now), 0);
        Ok(true)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.shelf().records.len())
            .finish_non_exhaustive()
    }
}
