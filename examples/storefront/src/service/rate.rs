//! How many orders one client may place: over all instances where they share Redis, else here.

use std::time::Duration;

use buttress_core::Registry;
use buttress_rate_limiter::{
    Bandwidth, Decision, KeyedRateLimiter, MetricsObserver, Quota, SharedError, SharedRateLimiter,
    WhenDown, store::RedisStore,
};

use crate::redis::Redis;

/// A bucket holds what flows in during so many seconds.
const SECONDS: u32 = 2;

#[derive(Clone, Debug)]
pub(crate) struct OrderRate {
    quota: Quota,
    limiter: Limiter,
}

#[derive(Clone, Debug)]
enum Limiter {
    Here(KeyedRateLimiter<Vec<u8>>),
    Shared(SharedRateLimiter),
}

impl OrderRate {
    /// What the limit is called.
    pub(crate) const NAME: &str = "orders";
    /// The highest rate that may be chosen.
    pub(crate) const HIGHEST: u32 = 100_000;

    /// So many orders a second for each client, twice as many at once.
    pub(crate) fn new(
        a_second: u32,
        redis: Option<&Redis>,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let permits = u64::from(a_second) * u64::from(SECONDS);
        let period = Duration::from_secs(SECONDS.into());
        let quota = Quota::new(Bandwidth::per(permits, period))?;
        let limiter = match redis {
            None => {
                let limiter = KeyedRateLimiter::builder(Self::NAME, quota.clone())
                    .observer(MetricsObserver::new());
                Limiter::Here(limiter.registry(registry).build()?)
            }
            Some(redis) => {
                let store = RedisStore::with_prefix(redis.connection.clone(), "storefront")?;
                let limiter = SharedRateLimiter::builder(Self::NAME, quota.clone(), store)
                    .gate(redis.gate.clone())
                    .observer(MetricsObserver::new())
                    .when_down(WhenDown::Local);
                Limiter::Shared(limiter.registry(registry).build()?)
            }
        };
        Ok(Self { quota, limiter })
    }

    /// Takes one order of what the client may still place, if there is one.
    pub(crate) async fn take(&self, client: &[u8]) -> Result<Decision, SharedError> {
        match &self.limiter {
            Limiter::Here(limiter) => Ok(limiter.check(client)),
            Limiter::Shared(limiter) => limiter.check(client).await,
        }
    }

    pub(crate) const fn quota(&self) -> &Quota {
        &self.quota
    }
}
