//! The handle: ask the cache, then the source, once.

mod ask;
mod builder;
mod core;
mod second;
mod write;

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use buttress_store::AfterCommit;
use futures_util::future::BoxFuture;

pub use self::builder::CacheBuilder;
pub(crate) use self::core::{Boarding, Core};
use crate::{
    CacheError, CachePolicy, LoadContext, Loaded, Served, fetch::Loader, key::Key,
    machine::Standing,
};

/// A cache of values of one kind. Cheap to clone; clones are the same cache.
///
/// A key is bytes: `&str`, `String`, `&[u8]`; see [`composite_key`](crate::composite_key) for keys of several
/// parts. It is looked up as it is, without being copied.
///
/// `V` is cloned at each hit, under a lock that readers share: it should be cheap to clone, an `Arc` or a
/// small value. Neither its `Clone` nor its `Drop` may use the cache.
///
/// No load that began before a write or an invalidation is seen by a caller who came after it.
///
/// ```
/// use buttress_cache_aside::{Cache, CacheError, CachePolicy};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), CacheError> {
/// let names = Cache::<String>::new("names", CachePolicy::default());
/// let name = names.get_or_load("user:7", || async { Ok::<_, std::io::Error>("Ada".to_owned()) }).await?;
/// assert_eq!(name, "Ada");
/// assert_eq!(names.get("user:7").await.as_deref(), Some("Ada"));
/// # Ok(()) }
/// ```
pub struct Cache<V> {
    core: Arc<Core<V>>,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// A cache of this policy. Its name is for logs, metrics and `Cache-Status`.
    pub fn new(name: impl Into<Cow<'static, str>>, policy: CachePolicy) -> Self {
        Self::builder(name, policy).build()
    }

    /// Chooses more than the policy.
    pub fn builder(name: impl Into<Cow<'static, str>>, policy: CachePolicy) -> CacheBuilder<V> {
        CacheBuilder::new(name.into(), policy)
    }

    /// The value under this key, from the cache or else by `loader`, which is called once however many ask
    /// at the same time. Its error, or that it panicked, reaches all of them.
    ///
    /// The loader brings a value, an `Option` of one, or a [`Loaded`] with terms of its own. It must not ask
    /// the same cache for the same key: it would wait for itself.
    ///
    /// Dropping the future leaves the load to the others who wait for it; with the last of them it is
    /// dropped. Refreshes behind the callers' backs are tasks of their own, and need a tokio runtime; so do
    /// timeouts.
    ///
    /// # Errors
    ///
    /// [`CacheError`]: there is none, or it could not be loaded and there was nothing stale to serve.
    pub async fn get_or_load<F, T, E>(
        &self,
        key: impl AsRef<[u8]>,
        loader: impl FnOnce() -> F + Send + 'static,
    ) -> Result<V, CacheError>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let key = key.as_ref();
        let value = match self.core.quiet_value(key) {
            Some(value) => value,
            None => self.load(key, loader).await?,
        };
        value.ok_or(CacheError::NotFound)
    }

    /// The same, where it is no error that there is none.
    ///
    /// # Errors
    ///
    /// [`CacheError`]: it could not be loaded, and there was nothing stale to serve.
    pub async fn find_or_load<F, T, E>(
        &self,
        key: impl AsRef<[u8]>,
        loader: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Option<V>, CacheError>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let key = key.as_ref();
        match self.core.quiet_value(key) {
            Some(value) => Ok(value),
            None => self.load(key, loader).await,
        }
    }

    /// The way of a miss. Boxed, so that the future of a hit is small: it is moved at each call.
    fn load<'a, F, T, E>(
        &'a self,
        key: &'a [u8],
        loader: impl FnOnce() -> F + Send + 'static,
    ) -> BoxFuture<'a, Result<Option<V>, CacheError>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let loader = erased(|_| loader());
        Box::pin(async move { Ok(self.core.ask(key, loader).await?.into_value()) })
    }

    /// The same with everything that can be known: the loader is told what is there, for a conditional load,
    /// and the caller how the value came, for a `Cache-Status`.
    ///
    /// # Errors
    ///
    /// [`CacheError`]: it could not be loaded, and there was nothing stale to serve.
    pub async fn serve_or_load<F, T, E>(
        &self,
        key: impl AsRef<[u8]>,
        loader: impl FnOnce(LoadContext<V>) -> F + Send + 'static,
    ) -> Result<Served<V>, CacheError>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let key = key.as_ref();
        if let Some((slot, now)) = self.core.quiet(key) {
            return Ok(self.core.hit(slot, now));
        }
        Box::pin(self.core.ask(key, erased(loader))).await
    }

    /// The value, if it would be served without waiting for a load: from this process, or else from the second level.
    /// Begins none, and keeps nothing.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Option<V> {
        let (core, key) = (&self.core, key.as_ref());
        let now = core.clock.now();
        let there = core.level.get(key).filter(|slot| {
            let standing = core.standing(slot, now);
            !slot.is_fenced(&core.tags) && !matches!(standing, Standing::Expired | Standing::Dead)
        });
        let slot = match there.or_else(|| core.unwritten(key)) {
            Some(slot) => slot,
            None => core.of_second(key).await?,
        };
        core.tell_hit(&slot, now);
        slot.value
    }

    /// What this process keeps, as long as it might be served at all, be it only instead of an error. Changes
    /// nothing.
    #[must_use]
    pub fn peek(&self, key: impl AsRef<[u8]>) -> Option<Served<V>> {
        let slot = self.core.alive(key.as_ref())?;
        let now = self.core.clock.now();
        let is_dead = slot.standing(now) == Standing::Dead;
        (!is_dead).then(|| Served::kept(slot, now))
    }

    /// Keeps a value that the caller knows to be right, on the policy's terms or, in a [`Loaded`], its own.
    /// Loads that began before keep nothing. Tags of what was there are not taken over.
    ///
    /// Two writers who do not know of each other may put in another order than they wrote: then the older value
    /// stays until its time is over. Where that can be, [`invalidate`](Self::invalidate), or write through
    /// [`write_through`](Self::write_through).
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Loaded<V>>) {
        let keep = |key: &Key, arrival| self.core.put_local(key, arrival);
        self.core
            .put(&key.as_ref().into(), value.into(), keep)
            .await;
    }

    /// Nobody who asks from now on gets what is kept, or being loaded, under this key.
    ///
    /// Call it after the source has been changed: before, a load might bring back what is about to change.
    pub async fn invalidate(&self, key: impl AsRef<[u8]>) {
        let receipt = self.core.owe(|second| second.owe_removal(key.as_ref()));
        self.core.invalidate_local(key.as_ref());
        self.core.pay(receipt).await;
    }

    /// The same, but what is kept may still be served when its load fails, for as long as the policy's
    /// `stale_if_error` says.
    pub async fn expire(&self, key: impl AsRef<[u8]>) {
        let receipt = self.core.owe(|second| second.owe_expiry(key.as_ref()));
        self.core.expire_local(key.as_ref());
        self.core.pay(receipt).await;
    }

    /// [`invalidate`](Self::invalidate) for all entries with this tag, kept or being loaded. Costs the same
    /// however many there are.
    pub async fn invalidate_tag(&self, tag: impl AsRef<str>) {
        let receipt = self.core.owe(|second| second.owe_mark(tag.as_ref()));
        self.core.invalidate_tag_local(tag.as_ref());
        self.core.pay(receipt).await;
    }

    /// [`invalidate`](Self::invalidate) for all entries.
    pub async fn clear(&self) {
        let receipt = self.core.owe(|second| Some(second.owe_clear()));
        self.core.clear_local();
        self.core.pay(receipt).await;
    }

    /// [`invalidate`](Self::invalidate), once the transaction that changed the source has been committed:
    /// before, a load would bring back the old value, and after a rollback there is nothing to invalidate.
    pub fn invalidate_after_commit(&self, key: impl AsRef<[u8]>) -> AfterCommit {
        let core = Arc::clone(&self.core);
        let key: Box<[u8]> = key.as_ref().into();
        AfterCommit::new(move || {
            // Dropped unpaid, the debt is left to the task that looks after it, which begins at once.
            let _left = core.owe(|second| second.owe_removal(&key));
            core.invalidate_local(&key);
        })
    }

    /// Whether everything has been heard that other instances said up to `within` ago. Without a bus, nothing is.
    #[must_use]
    pub fn heard_within(&self, within: Duration) -> bool {
        let second = self.core.second.as_ref();
        second.is_some_and(|second| second.heard_within(within))
    }

    /// How many changes of this instance are not known yet to have reached the second level and the others. They are
    /// tried again for as long as the cache is there; a graceful stop waits until there are none, or for as long as an
    /// entry lives.
    #[must_use]
    pub fn owed(&self) -> usize {
        let second = self.core.second.as_ref();
        second.map_or(0, |second| second.owed().len())
    }

    pub(crate) const fn core(&self) -> &Arc<Core<V>> {
        &self.core
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.told.name
    }

    /// The policy it goes by.
    #[must_use]
    pub fn policy(&self) -> &CachePolicy {
        &self.core.policy
    }

    /// How many entries this process keeps, those included whose time is over and whose place nobody needed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.level.len()
    }

    /// Whether this process keeps none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much of the capacity is taken.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.core.level.weight()
    }
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
        }
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

/// A loader without its types.
fn erased<V, F, T, E>(loader: impl FnOnce(LoadContext<V>) -> F + Send + 'static) -> Loader<V>
where
    V: Send + Sync + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Loaded<V>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    Loader {
        load: Box::new(move |context| {
            Box::pin(async move {
                let loaded = loader(context).await;
                loaded.map(Into::into).map_err(CacheError::of_loader)
            })
        }),
        look: None,
    }
}
