//! In this process: for tests, and for programs that have one instance today.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use buttress_core::Clock;
use buttress_store::{Deadline, Key, Micros, StoreError};

use super::{Answer, Ask, Slot, Store};

/// A store in this process. It forgets idle keys when it doubles.
pub struct MemoryStore {
    clock: Clock,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    keys: HashMap<Key, (Vec<Slot>, Micros)>,
    sweep_at: usize,
}

impl MemoryStore {
    /// An empty one, by tokio's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::default())
    }

    /// An empty one, by another clock.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            clock,
            inside: Mutex::default(),
        }
    }

    fn now(&self) -> Micros {
        let micros = self.clock.now().as_nanos() / 1000;
        Micros::new(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
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

#[async_trait]
impl Store for MemoryStore {
    async fn decide(&self, key: &Key, ask: &Ask, _: Deadline) -> Result<Answer, StoreError> {
        let mut inside = self.lock();
        // In the lock's order: who came first is not judged by a later time.
        let now = self.now();
        let held = inside.keys.get(key).map_or(&[][..], |(slots, _)| slots);
        let decided = ask.decide(held, now);
        if let Some(slots) = decided.slots {
            if inside.keys.len() >= inside.sweep_at {
                inside.keys.retain(|_, (_, until)| *until > now);
                inside.sweep_at = (inside.keys.len() * 2).max(1024);
            }
            inside.keys.insert(key.clone(), (slots, now + decided.life));
        }
        Ok(decided.answer)
    }

    async fn forget(&self, key: &Key, _: Deadline) -> Result<(), StoreError> {
        self.lock().keys.remove(key);
        Ok(())
    }

    async fn prune(&self, most: u32, _: Deadline) -> Result<u64, StoreError> {
        let now = self.now();
        let mut left = u64::from(most);
        self.lock().keys.retain(|_, (_, until)| {
            let goes = left > 0 && *until <= now;
            left -= u64::from(goes);
            !goes
        });
        Ok(u64::from(most) - left)
    }
}
