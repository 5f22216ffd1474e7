//! Single loads, gathered into one call: for the N + 1 queries of a list and what each of its lines needs.

mod call;
mod error;
mod gather;

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Notify;

pub use self::error::BatchError;
use self::{
    call::Call,
    gather::{Gathering, Joined},
};
use crate::PolicyError;

/// What a call brought: what is not in it is not there.
type Answers<K, V> = HashMap<K, Result<V, BatchError>>;
type Loader<K, V> =
    Arc<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Answers<K, V>, BatchError>> + Send + Sync>;

/// When the keys that are asked for are loaded.
///
/// | field | default | allowed |
/// | --- | --- | --- |
/// | `window` | 1 ms | 0 to 1 s |
/// | `most` | 100 | 1 to 100,000 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is checked where a batcher is made"
)]
pub struct BatchPolicy {
    /// How long after its first key a call waits for others. Zero: until all that can run has run once, which is enough
    /// for what one task asks for at once, and costs no time.
    pub window: Duration,
    /// How many keys a call has at most. With that many it begins at once.
    pub most: usize,
}

impl Default for BatchPolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(1),
            most: 100,
        }
    }
}

/// Gathers single loads into one call of a loader, as Facebook's `DataLoader` does. Cheap to clone; clones gather
/// together.
///
/// It keeps nothing: who asks for a key whose call has begun is in the next one, so that nobody gets what was read
/// before he asked. To keep what it brings, it is the loader of a [`Cache`](crate::Cache).
///
/// No task runs for it. A call is polled by one of those who wait for it; when he goes the next one takes over, and when
/// all have gone it is dropped. A key for which nobody waits any more when its call begins is not asked for.
///
/// ```
/// # use buttress_cache_aside::{BatchError, Batcher, BatchPolicy, Cache, CachePolicy, PolicyError};
/// # async fn select_names(ids: Vec<u64>) -> std::io::Result<Vec<(u64, String)>> {
/// #     Ok(ids.into_iter().filter(|id| *id < 9).map(|id| (id, format!("user {id}"))).collect())
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let names = Batcher::new(BatchPolicy::default(), |ids: Vec<u64>| async move {
///     select_names(ids).await // one query: … WHERE id IN (…)
/// })?;
/// let (ada, nobody) = tokio::join!(names.load(7), names.load(9));
/// assert_eq!((ada?.as_deref(), nobody?), (Some("user 7"), None));
///
/// // As the loader of a cache: a key is asked for once, and with others.
/// let cache = Cache::<String>::new("names", CachePolicy::default());
/// let found = cache.find_or_load("7", move || async move { names.load(7).await }).await?;
/// # assert!(found.is_some());
/// # Ok(()) }
/// ```
pub struct Batcher<K, V> {
    inner: Arc<Inner<K, V>>,
}

struct Inner<K, V> {
    policy: BatchPolicy,
    loader: Loader<K, V>,
    /// The call that gathers, or the last one. It is its callers'.
    current: Mutex<Weak<Batch<K, V>>>,
}

struct Batch<K, V> {
    gathered: Arc<Gathered<K>>,
    call: Call<Answers<K, V>>,
}

struct Gathered<K> {
    keys: Mutex<Gathering<K>>,
    full: Notify,
}

impl<K> Gathered<K> {
    fn keys(&self) -> MutexGuard<'_, Gathering<K>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Batcher<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// One call of `loader` for the keys of a window. It brings the values with their keys, in any order; what it does not
    /// bring is not there, what nobody asked for is left out, and of two for a key the last one counts. Its error is that
    /// of all.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], when the policy cannot work.
    pub fn new<F, I, E>(
        policy: BatchPolicy,
        loader: impl Fn(Vec<K>) -> F + Send + Sync + 'static,
    ) -> Result<Self, PolicyError>
    where
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, V)>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::of(
            policy,
            Arc::new(move |keys| {
                let loading = loader(keys);
                Box::pin(async move {
                    let brought = loading.await.map_err(BatchError::of_loader)?;
                    Ok(brought.into_iter().map(|(key, it)| (key, Ok(it))).collect())
                })
            }),
        )
    }

    /// The same for a loader that can fail for one key and not for another.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], when the policy cannot work.
    pub fn with_results<F, I, E, O>(
        policy: BatchPolicy,
        loader: impl Fn(Vec<K>) -> F + Send + Sync + 'static,
    ) -> Result<Self, PolicyError>
    where
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, Result<V, O>)>,
        E: Into<Box<dyn Error + Send + Sync>>,
        O: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::of(
            policy,
            Arc::new(move |keys| {
                let loading = loader(keys);
                Box::pin(async move {
                    let brought = loading.await.map_err(BatchError::of_loader)?;
                    let of_key =
                        |(key, it): (K, Result<V, O>)| (key, it.map_err(BatchError::of_loader));
                    Ok(brought.into_iter().map(of_key).collect())
                })
            }),
        )
    }

    fn of(policy: BatchPolicy, loader: Loader<K, V>) -> Result<Self, PolicyError> {
        if policy.window > Duration::from_secs(1) {
            return Err(PolicyError::new("window", "up to 1 s"));
        }
        if !(1..=100_000).contains(&policy.most) {
            return Err(PolicyError::new("most", "1 to 100,000"));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                policy,
                loader,
                current: Mutex::new(Weak::new()),
            }),
        })
    }

    /// The value of this key, or that there is none, by a call that begins after this.
    ///
    /// Dropping the future leaves the call to the others who wait for it. A window above zero needs a runtime of tokio's.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: the call failed or panicked, or failed for this key.
    pub async fn load(&self, key: K) -> Result<Option<V>, BatchError> {
        let caller = self.inner.join(key);
        match caller.batch.call.end().await {
            Ok(answers) => answers.get(&caller.key).cloned().transpose(),
            Err(error) => Err(error.clone()),
        }
    }

    /// The same for several, in their order. They are in one call unless they are too many for it.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: the first in their order that could not be loaded.
    pub async fn load_many(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<V>>, BatchError> {
        let loads = keys.into_iter().map(|key| self.load(key));
        join_all(loads).await.into_iter().collect()
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Nothing of the user's but his key's `Hash`, `Eq` and `Clone` runs under these locks.
    fn join(&self, key: K) -> Caller<K, V> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let last = current.upgrade();
        let join = |batch: &Batch<K, V>| batch.gathered.keys().join(&key);
        let (batch, joined) = match (&last, last.as_deref().map_or(Joined::Late, join)) {
            (Some(batch), joined @ (Joined::Waits | Joined::Fills)) => (Arc::clone(batch), joined),
            _ => {
                let batch = Arc::new(self.batch());
                *current = Arc::downgrade(&batch);
                let joined = join(&batch);
                (batch, joined)
            }
        };
        drop(current);
        // Its callers may have gone meanwhile: then it is dropped here, and the loader's future with it.
        drop(last);
        if joined == Joined::Fills {
            batch.gathered.full.notify_one();
        }
        Caller { batch, key }
    }

    fn batch(&self) -> Batch<K, V> {
        let gathered = Arc::new(Gathered {
            keys: Mutex::new(Gathering::new(self.policy.most)),
            full: Notify::new(),
        });
        let (gathers, window) = (Arc::clone(&gathered), self.policy.window);
        let loader = Arc::clone(&self.loader);
        let work = async move {
            if window.is_zero() {
                tokio::task::yield_now().await;
            } else {
                // That it is full ends the wait. That it is not, is no error.
                let _full = tokio::time::timeout(window, gathers.full.notified()).await;
            }
            let keys = gathers.keys().begin();
            if keys.is_empty() {
                return Ok(HashMap::new());
            }
            loader(keys).await
        };
        Batch {
            gathered,
            call: Call::new(Box::pin(work)),
        }
    }
}

/// One who waits for a key. Dropping it leaves the call.
struct Caller<K: Hash + Eq + Clone, V> {
    batch: Arc<Batch<K, V>>,
    key: K,
}

impl<K: Hash + Eq + Clone, V> Drop for Caller<K, V> {
    fn drop(&mut self) {
        self.batch.gathered.keys().leave(&self.key);
    }
}

impl<K, V> Clone for Batcher<K, V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K, V> fmt::Debug for Batcher<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("policy", &self.inner.policy)
            .finish_non_exhaustive()
    }
}
