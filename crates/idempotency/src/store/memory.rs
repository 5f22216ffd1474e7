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

use super::{Answer, Decision, Record, Request, State, Store, Unfinished, decide, holds};
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
    /// With so many records it is looked through for what has expired.
    sweep_at: usize,
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

    fn insert(&mut self, key: ScopedKey, record: Record, now: Micros) {
        self.records.insert(key, record);
        if self.records.len() >= self.sweep_at.max(FEW) {
            self.records.retain(|_, record| record.expires_at > now);
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
        let record = Record {
            fence,
            fingerprint: request.fingerprint,
            state: State::running(lease_until),
            expires_at: lease_until + request.retention,
        };
        shelf.insert(request.key.clone(), record, now);
        Ok(Answer::Claimed(fence))
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
        Ok(true)
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        let now = self.now();
        let mut shelf = self.shelf();
        let open = shelf.open(key, fence, |record| record.state = State::unknown(now));
        if open && fence.epoch() == 1 {
            shelf.records.remove(key);
        }
        Ok(open)
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
        self.shelf().records.retain(|_, record| {
            let goes = left > 0 && record.expires_at <= now;
            left -= u32::from(goes);
            !goes
        });
        Ok(u64::from(limit - left))
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        let now = self.now();
        let mut found: Vec<_> = self
            .shelf()
            .records
            .iter()
            .filter(|(_, record)| record.expires_at > now)
            .filter_map(|(key, record)| match record.state {
                State::Running { lease_until } | State::Unknown { lease_until }
                    if lease_until + idle <= now =>
                {
                    let idle = now.saturating_since(lease_until);
                    Some(Unfinished::new(key.clone(), record.fence.epoch(), idle))
                }
                _ => None,
            })
            .collect();
        found.sort_by_key(|it| std::cmp::Reverse(it.idle));
        found.truncate(limit as usize);
        Ok(found)
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
