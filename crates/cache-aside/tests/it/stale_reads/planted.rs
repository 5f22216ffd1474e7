//! What is planted, for the checker to find.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use buttress_cache_aside::{
    bus::{Bus, RedisBus, Subscription},
    store::{
        CacheStore, FillToken, Leased, LoadClaim, Looked, Marked, Marks, Missed, Reading, Record,
        RedisStore, Stamp, Watch,
    },
};
use buttress_store::{Deadline, Key, StoreError};

use super::Bug;

#[derive(Debug)]
pub(super) struct Planted<T> {
    inner: T,
    bug: Bug,
    /// Who speaks here: the first sender that publishes.
    me: Mutex<Option<Vec<u8>>>,
}

impl<T> Planted<T> {
    pub(super) fn new(inner: T, bug: Bug) -> Self {
        Self {
            inner,
            bug,
            me: Mutex::default(),
        }
    }
}

#[async_trait]
impl CacheStore for Planted<RedisStore> {
    async fn read(
        &self,
        keys: &[Key],
        watch: Option<Watch<'_>>,
        deadline: Deadline,
    ) -> Result<Reading, StoreError> {
        self.inner.read(keys, watch, deadline).await
    }

    async fn claim(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Missed>, StoreError> {
        self.inner.claim(keys, deadline).await
    }

    async fn marks(&self, watch: Watch<'_>, deadline: Deadline) -> Result<Marks, StoreError> {
        self.inner.marks(watch, deadline).await
    }

    async fn fill(
        &self,
        key: &Key,
        token: &FillToken,
        record: Record<'_>,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let mut token = *token;
        if self.bug == Bug::Unfenced {
            let looked = self.inner.read(std::slice::from_ref(key), None, deadline);
            if let Some(Looked::Missed(missed)) = looked.await?.keys.pop() {
                token = missed.token;
            }
        }
        self.inner.fill(key, &token, record, deadline).await
    }

    async fn take_over(&self, key: &Key, deadline: Deadline) -> Result<FillToken, StoreError> {
        self.inner.take_over(key, deadline).await
    }

    async fn invalidate(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        self.inner.invalidate(keys, deadline).await
    }

    async fn expire(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        self.inner.expire(keys, deadline).await
    }

    async fn mark(
        &self,
        space: &Key,
        what: Marked<'_>,
        deadline: Deadline,
    ) -> Result<Stamp, StoreError> {
        self.inner.mark(space, what, deadline).await
    }

    async fn lease(
        &self,
        key: &Key,
        claim: &LoadClaim,
        term: Duration,
        deadline: Deadline,
    ) -> Result<Leased, StoreError> {
        self.inner.lease(key, claim, term, deadline).await
    }

    async fn let_go(
        &self,
        key: &Key,
        claim: &LoadClaim,
        open: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.inner.let_go(key, claim, open, deadline).await
    }
}

/// Behind the magic number: who says it.
const SENDER: std::ops::Range<usize> = 5..21;

#[async_trait]
impl Bus for Planted<RedisBus> {
    async fn publish(
        &self,
        space: &Key,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        *self.me.lock().unwrap() = Some(message[SENDER].to_vec());
        self.inner.publish(space, message, deadline).await
    }

    async fn subscribe(
        &self,
        space: &Key,
        deadline: Deadline,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        let inner = self.inner.subscribe(space, deadline).await?;
        if self.bug != Bug::Deaf {
            return Ok(inner);
        }
        let me = self.me.lock().unwrap().clone();
        Ok(Box::new(Deaf { inner, me }))
    }
}

#[derive(Debug)]
struct Deaf {
    inner: Box<dyn Subscription>,
    me: Option<Vec<u8>>,
}

#[async_trait]
impl Subscription for Deaf {
    async fn next(&mut self) -> Result<Vec<u8>, StoreError> {
        loop {
            let message = self.inner.next().await?;
            let me = self.me.get_or_insert_with(|| message[SENDER].to_vec());
            if message[SENDER] == me[..] {
                return Ok(message);
            }
        }
    }
}
