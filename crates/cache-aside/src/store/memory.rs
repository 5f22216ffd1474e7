//! In this process: for tests, and for the caches of one process that share a second level.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use buttress_core::{Clock, Moment};
use buttress_store::{Deadline, Key, StoreError};

use super::{
    CacheStore, FillToken, Held, Leased, LoadClaim, Looked, Marked, Marks, Missed, Reading, Record,
    Stamp, Watch,
};

/// For how long a token stands after it was last given out.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// How many tags of a space have a mark of their own. Beyond that the older half shares one.
const MOST_TAGS: usize = 10_000;

/// A store in this process. What is over is forgotten when the keys have doubled.
pub struct MemoryStore {
    clock: Clock,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    slots: HashMap<Key, Slot>,
    spaces: HashMap<Key, Space>,
    sweep_at: usize,
}

#[derive(Default)]
struct Slot {
    entry: Option<Entry>,
    token: Option<Given>,
}

struct Entry {
    bytes: Vec<u8>,
    made: Moment,
    stale_at: Moment,
    ends: Moment,
}

struct Given {
    token: FillToken,
    first: Moment,
    ends: Moment,
    lease: Option<Lease>,
}

/// Ends with its token.
struct Lease {
    /// Zeros when nobody is to wait.
    holder: [u8; 16],
    ends: Moment,
}

/// Nobody's name.
const OPEN: [u8; 16] = [0; 16];

struct Space {
    now: Stamp,
    floor: u64,
    tags: HashMap<Key, u64>,
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

    /// Forgets everything, marks too: entries of before are believed by nobody.
    pub fn flush(&self) {
        let mut inside = self.lock();
        inside.slots.clear();
        inside.spaces.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn slot(&mut self, key: &Key, now: Moment) -> &mut Slot {
        if self.slots.len() > self.sweep_at {
            self.slots.retain(|_, slot| slot.lives(now));
            self.sweep_at = (self.slots.len() * 2).max(1024);
        }
        let slot = self.slots.entry(key.clone()).or_default();
        slot.lives(now);
        slot
    }

    fn space(&mut self, space: &Key) -> &mut Space {
        self.spaces.entry(space.clone()).or_insert_with(Space::new)
    }

    fn marks(&mut self, watch: Watch<'_>) -> Marks {
        self.space(watch.space).marks(watch.tags)
    }
}

impl Slot {
    /// Lets go what is over; whether anything is left.
    fn lives(&mut self, now: Moment) -> bool {
        self.entry.take_if(|entry| entry.ends <= now);
        self.token.take_if(|given| given.ends <= now);
        self.entry.is_some() || self.token.is_some()
    }

    fn claim(&mut self, now: Moment) -> Missed {
        let ends = now.saturating_add(TOKEN_LIFE);
        match &mut self.token {
            Some(given) => {
                given.ends = ends;
                Missed {
                    token: given.token,
                    since: Some(now.saturating_since(given.first)),
                }
            }
            none => {
                let token = FillToken::random();
                *none = Some(Given {
                    token,
                    first: now,
                    ends,
                    lease: None,
                });
                Missed { token, since: None }
            }
        }
    }

    fn fill(&mut self, record: Record<'_>, now: Moment) {
        self.token = None;
        self.entry = Some(Entry {
            bytes: record.bytes.to_vec(),
            made: now,
            stale_at: now.saturating_add(record.fresh.min(record.life)),
            ends: now.saturating_add(record.life),
        });
    }

    /// The token that this claim is for, with what lease it has.
    fn claimed(&mut self, claim: &LoadClaim, now: Moment) -> Option<&mut Given> {
        let given = self.token.as_mut()?;
        given.lease.take_if(|lease| lease.ends <= now);
        (given.token == *claim.token()).then_some(given)
    }

    fn lease(&mut self, claim: &LoadClaim, term: Duration, now: Moment) -> Leased {
        let Some(given) = self.claimed(claim, now) else {
            return Leased::Ended;
        };
        match &given.lease {
            Some(lease) if lease.holder == OPEN => Leased::Open,
            Some(lease) if lease.holder != *claim.holder() => Leased::Taken {
                left: lease.ends.saturating_since(now),
            },
            _ => {
                given.lease = Some(Lease {
                    holder: *claim.holder(),
                    ends: now.saturating_add(term),
                });
                given.ends = now.saturating_add(TOKEN_LIFE);
                Leased::Ours
            }
        }
    }

    fn let_go(&mut self, claim: &LoadClaim, open: Option<Duration>, now: Moment) {
        let given = self.claimed(claim, now);
        let is_his = |given: &&mut Given| {
            let lease = given.lease.as_ref();
            lease.is_some_and(|lease| lease.holder == *claim.holder())
        };
        if let Some(given) = given.filter(is_his) {
            given.lease = open.map(|open| Lease {
                holder: OPEN,
                ends: now.saturating_add(open),
            });
        }
    }

    /// As old as it is when it turns stale.
    fn expire(&mut self, now: Moment) {
        self.token = None;
        if let Some(entry) = &mut self.entry {
            let stale = entry.ends.saturating_since(entry.stale_at);
            entry.ends = entry.ends.min(now.saturating_add(stale));
            entry.stale_at = entry.stale_at.min(now);
        }
        self.lives(now);
    }
}

impl Space {
    fn new() -> Self {
        Self {
            now: Stamp {
                epoch: rand::random::<u64>() >> 11,
                sequence: 1,
            },
            floor: 1,
            tags: HashMap::new(),
        }
    }

    fn marks(&self, tags: &[Key]) -> Marks {
        let mark = |tag| self.tags.get(tag).copied().unwrap_or(0);
        Marks {
            now: self.now,
            floor: self.floor,
            tags: tags.iter().map(mark).collect(),
        }
    }

    /// What they said is kept as the floor: what was made before a mark stays dead, and with it some that no mark hit,
    /// which costs a load.
    fn forget_old_marks(&mut self) {
        if self.tags.len() <= MOST_TAGS {
            return;
        }
        let mut marks: Vec<u64> = self.tags.values().copied().collect();
        let (_, middle, _) = marks.select_nth_unstable(self.tags.len() / 2);
        let floor = *middle;
        self.tags.retain(|_, mark| *mark > floor);
        self.floor = self.floor.max(floor);
    }

    fn mark(&mut self, what: Marked<'_>) -> Stamp {
        self.now.sequence += 1;
        let mark = self.now.sequence;
        match what {
            Marked::All => {
                self.floor = mark;
                self.tags.clear();
            }
            Marked::Tags(tags) => {
                for tag in tags {
                    self.tags.insert(tag.clone(), mark);
                }
                self.forget_old_marks();
            }
        }
        self.now
    }
}

#[async_trait]
impl CacheStore for MemoryStore {
    async fn read(
        &self,
        keys: &[Key],
        watch: Option<Watch<'_>>,
        _: Deadline,
    ) -> Result<Reading, StoreError> {
        let now = self.clock.now();
        let mut inside = self.lock();
        let looked = keys.iter().map(|key| {
            let slot = inside.slot(key, now);
            match &slot.entry {
                Some(entry) => Looked::Held(Held {
                    bytes: entry.bytes.clone(),
                    fresh: entry.stale_at.saturating_since(now),
                    life: entry.ends.saturating_since(now),
                    age: now.saturating_since(entry.made),
                }),
                None => Looked::Missed(slot.claim(now)),
            }
        });
        Ok(Reading {
            keys: looked.collect(),
            marks: watch.map(|watch| inside.marks(watch)),
        })
    }

    async fn claim(&self, keys: &[Key], _: Deadline) -> Result<Vec<Missed>, StoreError> {
        let now = self.clock.now();
        let mut inside = self.lock();
        let claims = keys.iter().map(|key| inside.slot(key, now).claim(now));
        Ok(claims.collect())
    }

    async fn marks(&self, watch: Watch<'_>, _: Deadline) -> Result<Marks, StoreError> {
        Ok(self.lock().marks(watch))
    }

    async fn fill(
        &self,
        key: &Key,
        token: &FillToken,
        record: Record<'_>,
        _: Deadline,
    ) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut inside = self.lock();
        let slot = inside.slot(key, now);
        let stands = slot.token.as_ref().is_some_and(|it| it.token == *token);
        if stands {
            slot.fill(record, now);
        }
        Ok(stands)
    }

    async fn take_over(&self, key: &Key, _: Deadline) -> Result<FillToken, StoreError> {
        let now = self.clock.now();
        let mut inside = self.lock();
        inside.slots.remove(key);
        Ok(inside.slot(key, now).claim(now).token)
    }

    async fn invalidate(&self, keys: &[Key], _: Deadline) -> Result<(), StoreError> {
        let mut inside = self.lock();
        for key in keys {
            inside.slots.remove(key);
        }
        Ok(())
    }

    async fn expire(&self, keys: &[Key], _: Deadline) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut inside = self.lock();
        for key in keys {
            inside.slot(key, now).expire(now);
        }
        Ok(())
    }

    async fn mark(&self, space: &Key, what: Marked<'_>, _: Deadline) -> Result<Stamp, StoreError> {
        Ok(self.lock().space(space).mark(what))
    }

    async fn lease(
        &self,
        key: &Key,
        claim: &LoadClaim,
        term: Duration,
        _: Deadline,
    ) -> Result<Leased, StoreError> {
        let now = self.clock.now();
        Ok(self.lock().slot(key, now).lease(claim, term, now))
    }

    async fn let_go(
        &self,
        key: &Key,
        claim: &LoadClaim,
        open: Option<Duration>,
        _: Deadline,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.lock().slot(key, now).let_go(claim, open, now);
        Ok(())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.lock().slots.len();
        f.debug_struct("MemoryStore")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_tags_is_bounded_and_what_they_killed_stays_dead() {
        let mut space = Space::new();
        let key = |number: usize| Key::new(number.to_string()).unwrap();
        let (made, mut newest) = (space.now, space.now);
        for number in 0..5 * MOST_TAGS {
            newest = space.mark(Marked::Tags(&[key(number)]));
        }
        assert!(space.tags.len() <= MOST_TAGS, "{}", space.tags.len());
        let forgotten = space.marks(&[key(0)]);
        assert!(
            !forgotten.allow(made),
            "it is forgotten, and not what it said"
        );
        assert!(forgotten.allow(newest), "what came since lives");
        let known = space.marks(&[key(5 * MOST_TAGS - 1)]);
        assert!(known.allow(newest) && !known.allow(made));
    }
}
