//! The store cannot be asked: nothing is done, unless it was chosen otherwise.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use buttress_idempotency::{
    Idempotency, Policy, ScopedKey, WhenDown,
    store::{Answer, MemoryStore, Request, Store, Unfinished},
};
use buttress_store::{Fence, Phase, StoreError, StoreErrorKind};
use bytes::Bytes;

use super::stand::{Stand, ask, post, short};

/// A store that can be away.
#[derive(Debug)]
struct Flaky {
    store: MemoryStore,
    away: &'static AtomicBool,
}

impl Flaky {
    fn answers(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Unreachable, Phase::Connect));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Flaky {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        self.answers()?;
        self.store.claim(request).await
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.answers()?;
        self.store.extend(key, fence, lease, retention).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.answers()?;
        self.store.complete(key, fence, outcome, retention).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.answers()?;
        self.store.release(key, fence).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.answers()?;
        self.store.doubt(key, fence).await
    }

    async fn reap(&self, limit: u32) -> Result<u64, StoreError> {
        self.store.reap(limit).await
    }

    async fn unfinished(&self, idle: Duration, limit: u32) -> Result<Vec<Unfinished>, StoreError> {
        self.store.unfinished(idle, limit).await
    }
}

/// A stand whose store is away when the switch says so.
fn flaky(policy: Policy) -> (Stand, &'static AtomicBool) {
    let away = &*Box::leak(Box::new(AtomicBool::new(false)));
    let store = Flaky {
        store: MemoryStore::new(),
        away,
    };
    let idempotency = Idempotency::builder(store).policy(policy).build();
    (Stand::on(idempotency), away)
}

#[tokio::test]
async fn it_fails_closed() {
    let (stand, away) = flaky(short());
    away.store(true, Ordering::SeqCst);
    let refused = ask(&stand.layer(), stand.answering(200), post("k", "{}")).await;
    assert_eq!(
        (refused.status, refused.code().as_str(), stand.runs()),
        (503, "UNAVAILABLE", 0)
    );
    away.store(false, Ordering::SeqCst);
    assert_eq!(
        ask(&stand.layer(), stand.answering(200), post("k", "{}"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn it_fails_open_by_choice() {
    let policy = Policy::builder()
        .when_down(WhenDown::Proceed)
        .build()
        .unwrap();
    let (stand, away) = flaky(policy);
    away.store(true, Ordering::SeqCst);
    for run in 1..=2 {
        let answer = ask(&stand.layer(), stand.answering(200), post("k", "{}")).await;
        assert_eq!(answer.text(), format!("run {run}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_could_not_be_kept_is_given_all_the_same_and_the_key_is_not_free() {
    let (stand, away) = flaky(Policy::default());
    let counted = stand.clone();
    let service = tower::service_fn(move |_: super::stand::Asked| {
        counted.run();
        // It goes away while the handler runs.
        away.store(true, Ordering::SeqCst);
        async { Ok::<_, std::convert::Infallible>(super::stand::answer(201, "done")) }
    });
    let first = ask(&stand.layer(), service, post("k", "{}")).await;
    let truth = (first.status, first.text(), first.is_replay());
    assert_eq!(truth, (201, "done", false));
    away.store(false, Ordering::SeqCst);
    let again = ask(&stand.layer(), stand.answering(200), post("k", "{}")).await;
    assert_eq!((again.status, stand.runs()), (409, 1));
}
