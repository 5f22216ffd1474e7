//! Stores with a bug, each of which the suite finds.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use buttress_cache_aside::{
    store::{
        CacheStore, FillToken, Leased, LoadClaim, Looked, Marked, Marks, MemoryStore, Missed,
        Reading, Record, Stamp, Watch,
    },
    testing::conformance,
};
use buttress_store::{Deadline, Key, StoreError};
use futures_util::FutureExt as _;

use crate::stores::{key, soon};

/// Planted bugs.
#[derive(Clone, Copy, Debug)]
enum Bug {
    NoFence,
    RemovalLeavesTokens,
    WriteLeavesTokens,
    ExpiryLeavesTokens,
    NewTokenForEach,
    ExpiryRemoves,
    FoldsKeys,
    NoStaleness,
    MarksForgotten,
    MarksShared,
    OrderLost,
    LeaseForAll,
    LeaseOutlivesItsToken,
    NothingIsOpened,
    NothingIsGivenBack,
}

const BUGS: [Bug; 15] = [
    Bug::NoFence,
    Bug::RemovalLeavesTokens,
    Bug::WriteLeavesTokens,
    Bug::ExpiryLeavesTokens,
    Bug::NewTokenForEach,
    Bug::ExpiryRemoves,
    Bug::FoldsKeys,
    Bug::NoStaleness,
    Bug::MarksForgotten,
    Bug::MarksShared,
    Bug::OrderLost,
    Bug::LeaseForAll,
    Bug::LeaseOutlivesItsToken,
    Bug::NothingIsOpened,
    Bug::NothingIsGivenBack,
];

#[derive(Debug)]
struct Buggy {
    store: MemoryStore,
    bug: Bug,
    tokens: Mutex<HashMap<Key, FillToken>>,
}

impl Buggy {
    fn new(bug: Bug) -> Self {
        Self {
            store: MemoryStore::new(),
            bug,
            tokens: Mutex::default(),
        }
    }

    fn keys(&self, keys: &[Key]) -> Vec<Key> {
        let fold = |key: &Key| match self.bug {
            Bug::FoldsKeys => Key::bounded(key.to_ascii_lowercase(), 4096).unwrap(),
            _ => key.clone(),
        };
        keys.iter().map(fold).collect()
    }

    async fn refilled(&self, key: &Key, token: &FillToken) -> Option<FillToken> {
        let known = self.tokens.lock().unwrap().get(key) == Some(token);
        if !known {
            return None;
        }
        let claims = self.store.claim(std::slice::from_ref(key), soon()).await;
        Some(claims.unwrap()[0].token)
    }

    fn give(&self, key: &Key, missed: &mut Missed) {
        if matches!(self.bug, Bug::NewTokenForEach) {
            missed.since = None;
        }
        self.tokens
            .lock()
            .unwrap()
            .insert(key.clone(), missed.token);
    }

    fn ended(&self, keys: &[Key]) {
        for key in keys {
            self.tokens.lock().unwrap().remove(key);
        }
    }
}

#[async_trait]
impl CacheStore for Buggy {
    async fn read(
        &self,
        keys: &[Key],
        watch: Option<Watch<'_>>,
        deadline: Deadline,
    ) -> Result<Reading, StoreError> {
        let keys = self.keys(keys);
        let mut reading = self.store.read(&keys, watch, deadline).await?;
        for (key, looked) in keys.iter().zip(&mut reading.keys) {
            match looked {
                Looked::Missed(missed) => self.give(key, missed),
                Looked::Held(held) if matches!(self.bug, Bug::NoStaleness) => {
                    held.fresh = held.life;
                }
                Looked::Held(_) => {}
            }
        }
        if matches!(self.bug, Bug::OrderLost) && keys.len() > 2 {
            reading.keys.reverse();
        }
        Ok(reading)
    }

    async fn claim(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Missed>, StoreError> {
        let keys = self.keys(keys);
        let mut claims = self.store.claim(&keys, deadline).await?;
        for (key, missed) in keys.iter().zip(&mut claims) {
            self.give(key, missed);
        }
        Ok(claims)
    }

    async fn marks(&self, watch: Watch<'_>, deadline: Deadline) -> Result<Marks, StoreError> {
        let all = key("all");
        let space = match self.bug {
            Bug::MarksShared => &all,
            _ => watch.space,
        };
        let mut marks = self.store.marks(Watch { space, ..watch }, deadline).await?;
        if matches!(self.bug, Bug::MarksForgotten) {
            marks.tags.fill(0);
        }
        Ok(marks)
    }

    async fn fill(
        &self,
        key: &Key,
        token: &FillToken,
        record: Record<'_>,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let key = &self.keys(std::slice::from_ref(key))[0];
        let again = match self.bug {
            Bug::NoFence
            | Bug::RemovalLeavesTokens
            | Bug::WriteLeavesTokens
            | Bug::ExpiryLeavesTokens => self.refilled(key, token).await,
            _ => None,
        };
        let filled = self
            .store
            .fill(key, &again.unwrap_or(*token), record, deadline)
            .await?;
        if filled && !matches!(self.bug, Bug::NoFence) {
            self.ended(std::slice::from_ref(key));
        }
        Ok(filled)
    }

    async fn take_over(&self, key: &Key, deadline: Deadline) -> Result<FillToken, StoreError> {
        let keys = self.keys(std::slice::from_ref(key));
        if !matches!(self.bug, Bug::WriteLeavesTokens | Bug::NoFence) {
            self.ended(&keys);
        }
        let token = self.store.take_over(&keys[0], deadline).await?;
        self.tokens
            .lock()
            .unwrap()
            .entry(keys[0].clone())
            .or_insert(token);
        if !matches!(self.bug, Bug::WriteLeavesTokens | Bug::NoFence) {
            self.tokens.lock().unwrap().insert(keys[0].clone(), token);
        }
        Ok(token)
    }

    async fn invalidate(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        let keys = self.keys(keys);
        if !matches!(self.bug, Bug::RemovalLeavesTokens | Bug::NoFence) {
            self.ended(&keys);
        }
        self.store.invalidate(&keys, deadline).await
    }

    async fn expire(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        let keys = self.keys(keys);
        if !matches!(self.bug, Bug::ExpiryLeavesTokens | Bug::NoFence) {
            self.ended(&keys);
        }
        match self.bug {
            Bug::ExpiryRemoves => self.store.invalidate(&keys, deadline).await,
            _ => self.store.expire(&keys, deadline).await,
        }
    }

    async fn mark(
        &self,
        space: &Key,
        what: Marked<'_>,
        deadline: Deadline,
    ) -> Result<Stamp, StoreError> {
        let all = key("all");
        let space = match self.bug {
            Bug::MarksShared => &all,
            _ => space,
        };
        self.store.mark(space, what, deadline).await
    }

    async fn lease(
        &self,
        key: &Key,
        claim: &LoadClaim,
        term: Duration,
        deadline: Deadline,
    ) -> Result<Leased, StoreError> {
        let key = &self.keys(std::slice::from_ref(key))[0];
        let leased = self.store.lease(key, claim, term, deadline).await?;
        Ok(match (self.bug, leased) {
            (Bug::LeaseForAll, Leased::Taken { .. }) => Leased::Ours,
            (Bug::LeaseOutlivesItsToken, Leased::Ended) => Leased::Taken { left: term },
            (Bug::NothingIsOpened, Leased::Open) => Leased::Ours,
            (_, leased) => leased,
        })
    }

    async fn let_go(
        &self,
        key: &Key,
        claim: &LoadClaim,
        open: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        if matches!(self.bug, Bug::NothingIsGivenBack) {
            return Ok(());
        }
        let key = &self.keys(std::slice::from_ref(key))[0];
        self.store.let_go(key, claim, open, deadline).await
    }
}

#[tokio::test]
async fn the_suite_catches_every_planted_bug() {
    let tally = buttress_testkit::tally::suite("CA1");
    for bug in BUGS {
        let suite = AssertUnwindSafe(conformance(Arc::new(Buggy::new(bug))));
        assert!(suite.catch_unwind().await.is_err(), "{bug:?} was not found");
    }
    tally.caught(BUGS.len());
}
