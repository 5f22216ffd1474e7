//! Stores with a bug that the suite, or the search for an order, must find.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use buttress_idempotency::{
    ScopedKey,
    store::{
        Adopted, Adoption, Answer, Checkpoint, Keeps, MemoryStore, Postponement, Request, Store,
        Unfinished,
    },
    testing::conforms,
};
use buttress_store::{Fence, StoreError};
use bytes::Bytes;
use futures_util::FutureExt as _;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Whoever completes is taken for the owner.
    NoFence,
    /// Whoever is in doubt gives the key back.
    ReleasedInDoubt,
    /// A duplicate with another request is told to come back.
    MismatchAfterInFlight,
    /// A claim holds nobody off.
    NoLease,
    /// A claim is never taken over.
    NoTakeover,
    /// Nothing is ever forgotten.
    NoExpiry,
    /// The reaper takes what is not expired as well.
    ReapsTooMuch,
    /// Whoever has passed a phase is taken for the owner.
    PhaseWithoutFence,
    /// A phase is stored whatever is stored already.
    PhaseAnywhere,
    /// A takeover forgets the phases that were passed.
    PhasesForgotten,
    /// A key is adopted while somebody works on it.
    AdoptsTheLiving,
    /// Drives are not counted, and no key is parked.
    DrivesForEver,
    /// A key that has passed a phase is parked as one that has not.
    ParksWhatGetsOn,
    /// Every request is every driver's.
    AnyDriver,
    /// What is kept of a request stays when its key is released.
    KeepsTheReleased,
    /// What is kept of a request goes when its key is handed back.
    ForgetsTheHandedBack,
}

pub(crate) const BUGS: [Bug; 16] = [
    Bug::NoFence,
    Bug::ReleasedInDoubt,
    Bug::MismatchAfterInFlight,
    Bug::NoLease,
    Bug::NoTakeover,
    Bug::NoExpiry,
    Bug::ReapsTooMuch,
    Bug::PhaseWithoutFence,
    Bug::PhaseAnywhere,
    Bug::PhasesForgotten,
    Bug::AdoptsTheLiving,
    Bug::DrivesForEver,
    Bug::ParksWhatGetsOn,
    Bug::AnyDriver,
    Bug::KeepsTheReleased,
    Bug::ForgetsTheHandedBack,
];

const EVER: Duration = Duration::from_secs(1_000_000);

#[derive(Clone, Debug)]
pub(crate) struct Buggy {
    store: MemoryStore,
    bug: Bug,
    owners: Arc<Mutex<HashMap<ScopedKey, Fence>>>,
}

impl Buggy {
    pub(crate) fn new(bug: Bug) -> Self {
        Self {
            store: MemoryStore::new(),
            bug,
            owners: Arc::default(),
        }
    }

    fn fence(&self, key: &ScopedKey, fence: Fence) -> Fence {
        let owners = self.owners.lock().unwrap();
        match self.bug {
            Bug::NoFence => owners.get(key).copied().unwrap_or(fence),
            _ => fence,
        }
    }
}

#[async_trait]
impl Store for Buggy {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        let mut wrong = *request;
        match self.bug {
            Bug::NoLease => wrong.lease = Duration::ZERO,
            Bug::NoTakeover => wrong.lease = EVER,
            Bug::NoExpiry => wrong.retention = EVER,
            Bug::AnyDriver => wrong.driver = "",
            _ => {}
        }
        let mut answer = self.store.claim(&wrong).await?;
        if self.bug == Bug::MismatchAfterInFlight && answer == Answer::Mismatch {
            let unfinished = self.store.unfinished(Duration::ZERO, 1000).await?;
            let owners = self.owners.lock().unwrap();
            if owners.contains_key(request.key)
                && !unfinished.iter().any(|it| it.key == *request.key)
            {
                answer = Answer::in_flight(Duration::from_secs(1), false);
            }
        }
        if let (Bug::PhasesForgotten, Answer::Resumed(fence, _)) = (self.bug, &answer) {
            answer = Answer::Claimed(*fence);
        }
        if let Answer::Claimed(fence) | Answer::Resumed(fence, _) = answer {
            self.owners
                .lock()
                .unwrap()
                .insert(request.key.clone(), fence);
        }
        Ok(answer)
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.store.extend(key, fence, lease, retention).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let fence = self.fence(key, fence);
        self.store.complete(key, fence, outcome, retention).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        match self.bug {
            Bug::KeepsTheReleased => self.store.hand_back(key, fence).await,
            _ => self.store.release(key, fence).await,
        }
    }

    async fn hand_back(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        match self.bug {
            Bug::ForgetsTheHandedBack => self.store.release(key, fence).await,
            _ => self.store.hand_back(key, fence).await,
        }
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        match self.bug {
            Bug::ReleasedInDoubt => self.store.release(key, fence).await,
            _ => self.store.doubt(key, fence).await,
        }
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        if self.bug == Bug::ReapsTooMuch {
            let owners: Vec<_> = self.owners.lock().unwrap().drain().collect();
            for (key, fence) in owners {
                self.store.release(&key, fence).await?;
            }
        }
        self.store.reap(limit).await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.store.unfinished(idle, limit).await
    }

    fn keeps(&self) -> Keeps {
        self.store.keeps()
    }

    async fn checkpoint(
        &self,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let mut wrong = checkpoint.clone();
        let owner = self.owners.lock().unwrap().get(key).copied();
        let fence = match self.bug {
            Bug::PhaseWithoutFence => owner.unwrap_or(fence),
            _ => fence,
        };
        if self.bug == Bug::PhaseAnywhere {
            for before in 0..1000 {
                wrong.before = before;
                if self.store.checkpoint(key, fence, &wrong).await? {
                    return Ok(true);
                }
            }
        }
        self.store.checkpoint(key, fence, &wrong).await
    }

    async fn adopt(&self, adoption: &Adoption) -> Result<Option<Adopted>, StoreError> {
        let mut wrong = adoption.clone();
        if self.bug == Bug::AdoptsTheLiving {
            wrong.lease = Duration::ZERO;
        }
        if self.bug == Bug::DrivesForEver {
            wrong.last_drive = u32::MAX;
        }
        if self.bug == Bug::AnyDriver {
            wrong.driver = "".into();
        }
        if self.bug == Bug::ParksWhatGetsOn {
            wrong.last_drive = 2;
            let adopted = self.store.adopt(&wrong).await?;
            if let Some(adopted) = adopted.as_ref().filter(|it| it.fence.epoch() > 4) {
                let parked = Postponement::new(None, true, true);
                let (key, fence) = (&adopted.key, adopted.fence);
                self.store.postpone(key, fence, parked).await?;
                return Ok(None);
            }
            return Ok(adopted);
        }
        self.store.adopt(&wrong).await
    }

    async fn postpone(
        &self,
        key: &ScopedKey,
        fence: Fence,
        to: Postponement,
    ) -> Result<bool, StoreError> {
        self.store.postpone(key, fence, to).await
    }

    async fn unpark(&self, key: &ScopedKey) -> Result<bool, StoreError> {
        self.store.unpark(key).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_finds_every_planted_bug() {
    let tally = buttress_testkit::tally::suite("ID2");
    for bug in BUGS {
        let buggy = Buggy::new(bug);
        let judged = AssertUnwindSafe(conforms(&buggy)).catch_unwind().await;
        assert!(judged.is_err(), "{bug:?} passes");
    }
    tally.caught(BUGS.len());
}
