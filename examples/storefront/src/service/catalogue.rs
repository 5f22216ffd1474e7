//! Reading and changing products; one product is read through a cache.
//!
//! With Redis the cache has a second level and hears of the others' changes there. An entry is served only if everything
//! that was said until less than a second ago has been heard; and it lives for less than ten, for so long may a change
//! be overlooked whose writer cannot reach Redis. Without Redis an entry lives for less than a second.

use std::{borrow::Cow, sync::Arc, time::Duration};

use buttress_cache_aside::{
    Cache, CacheError, CachePolicy, Loaded, MetricsObserver, SecondLevel, Served,
    bus::LinePolicy,
    codec::{Framing, Json, Schema},
    store::RedisStore,
};
use buttress_core::{Fault, Registry};
use serde::{Deserialize, Serialize};

use crate::{
    product::{Product, ProductChange},
    redis::Redis,
    repository::{Database, StoreError},
};

/// What is promised is a second; this leaves room for the load before it and the answer after it.
const OLDEST: Duration = Duration::from_millis(900);
/// The same of ten seconds.
const LIFE: Duration = Duration::from_secs(8);

/// A product without its stock, which changes too often to be cached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listing {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) price: i64,
    pub(crate) version: i64,
}

#[derive(Clone)]
pub(crate) struct Catalogue {
    database: Database,
    listings: Cache<Listing>,
}

/// Why a product was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeRefused {
    #[error("there is no such product")]
    NotFound,
    #[error("the product has another version")]
    VersionConflict,
    #[error("the database failed")]
    Store(#[from] StoreError),
}

/// Why a product could not be read: what the database said, to all who waited for it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct ReadFailed(#[from] CacheError);

/// Judges the version that a product has: whether it may be changed.
pub(crate) type Precondition<'a> = &'a (dyn Fn(i64) -> bool + Send + Sync);

impl Catalogue {
    /// What the cache is called.
    pub(crate) const CACHE: &str = "storefront";

    pub(crate) fn new(
        database: Database,
        redis: Option<&Redis>,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let life = if redis.is_some() { LIFE } else { OLDEST };
        let policy = CachePolicy::builder()
            .ttl(life)
            .negative_ttl(OLDEST)
            .jitter_percent(0)
            .build()?;
        let mut cache = Cache::builder(Self::CACHE, policy)
            .registry(registry)
            .observer(MetricsObserver::new());
        if let Some(redis) = redis {
            let store = RedisStore::with_prefix(redis.connection.clone(), "storefront")?;
            let framing = Framing::new(Json::new(), Schema::new("Listing", 1)?);
            let second = SecondLevel::new(store, framing)
                .gate(redis.gate.clone())
                .staleness(OLDEST)?
                .bus(redis.bus.clone(), LinePolicy::default())?;
            cache = cache.second_level(second);
        }
        Ok(Self {
            database,
            listings: cache.build(),
        })
    }

    pub(crate) async fn page(&self, after: &str, limit: i64) -> Result<Vec<Product>, StoreError> {
        self.database.products(after, limit).await
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Served<Listing>, ReadFailed> {
        let (database, asked) = (Arc::clone(&self.database), id.to_owned());
        let load = move |_| async move {
            let product = database.product(&asked).await?;
            Ok::<_, StoreError>(product.map_or_else(Loaded::not_found, |it| Loaded::new(it.into())))
        };
        Ok(self.listings.serve_or_load(id, load).await?)
    }

    /// Changes the product, if the version it has then passes `precondition`.
    pub(crate) async fn change(
        &self,
        id: &str,
        change: ProductChange,
        precondition: Precondition<'_>,
    ) -> Result<Product, ChangeRefused> {
        let mut changed = None;
        let write = || async {
            let product = self.changed(id, change, precondition).await?;
            changed = Some(product.clone());
            // Only what somebody asked for is kept. Failed or dropped, it may have been done: also then it goes.
            Ok::<_, ChangeRefused>(Loaded::new(Listing::from(product)).do_not_cache())
        };
        self.listings.write_through(id, write).await?;
        changed.ok_or(ChangeRefused::NotFound)
    }

    async fn changed(
        &self,
        id: &str,
        change: ProductChange,
        precondition: Precondition<'_>,
    ) -> Result<Product, ChangeRefused> {
        // Another change of name or price may come in between; each round, one of them got through.
        loop {
            let product = self
                .database
                .product(id)
                .await?
                .ok_or(ChangeRefused::NotFound)?;
            if !precondition(product.version) {
                return Err(ChangeRefused::VersionConflict);
            }
            if let Some(changed) = self
                .database
                .change_product(id, product.version, change.clone())
                .await?
            {
                return Ok(changed);
            }
        }
    }
}

impl From<Product> for Listing {
    fn from(product: Product) -> Self {
        Self {
            id: product.id,
            name: product.name,
            price: product.price,
            version: product.version,
        }
    }
}

impl ReadFailed {
    /// The database's own word, if it is that.
    fn fault(&self) -> &dyn Fault {
        match self.0.downcast_ref::<StoreError>() {
            Some(error) => error,
            None => &self.0,
        }
    }
}

impl Fault for ReadFailed {
    fn code(&self) -> &'static str {
        self.fault().code()
    }

    fn status(&self) -> u16 {
        self.fault().status()
    }

    fn public_message(&self) -> Cow<'_, str> {
        self.fault().public_message()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.fault().retry_after()
    }
}
