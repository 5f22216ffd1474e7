//! Writing behind: a write is answered when the cache has it, and the source gets it later, with others.

mod error;
mod policy;
mod queue;
mod runner;

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};

use self::queue::{Due, Queue};
pub use self::{
    error::WriteBehindError,
    policy::{WhenFull, WriteBehindPolicy},
};
use crate::{Cache, Loaded, PolicyError, cache::Core, key::Key, load::Answer};

/// A write to the source.
#[derive(Clone, PartialEq, Eq)]
pub struct Write<V> {
    key: Key,
    value: Option<V>,
    version: u64,
}

impl<V> Write<V> {
    /// What is written.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// What it is to be; `None` when it is removed.
    #[must_use]
    pub const fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The value, without a copy.
    #[must_use]
    pub fn into_value(self) -> Option<V> {
        self.value
    }

    /// It grows with each write of this process, and begins anew with the next: of two writes of one key the later one
    /// has the higher.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }
}

impl<V> From<Due<V>> for Write<V> {
    fn from(due: Due<V>) -> Self {
        let Due {
            key,
            value,
            version,
        } = due;
        Self {
            key,
            value,
            version,
        }
    }
}

impl<V> fmt::Debug for Write<V> {
    /// Keys and values are the callers' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("version", &self.version)
            .field("removes", &self.value.is_none())
            .finish_non_exhaustive()
    }
}

/// What the source did with the writes that it was given, when it did not fail as a whole.
#[derive(Clone, Debug, Default)]
pub struct Written {
    refused: Vec<Box<[u8]>>,
}

impl Written {
    /// All of them are written.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// All but these, which it will never take: they are given up.
    #[must_use]
    pub fn all_but<K: AsRef<[u8]>>(refused: impl IntoIterator<Item = K>) -> Self {
        let refused = refused.into_iter().map(|key| key.as_ref().into());
        Self {
            refused: refused.collect(),
        }
    }
}

impl From<()> for Written {
    fn from((): ()) -> Self {
        Self::all()
    }
}

/// What writes the source. It fails without words: who made it knows what went wrong.
type Sink<V> = Arc<dyn Fn(Vec<Write<V>>) -> BoxFuture<'static, Option<Written>> + Send + Sync>;
type GivenUp<V> = Arc<dyn Fn(Write<V>) + Send + Sync>;

/// Writes the source behind its callers' backs. Cheap to clone; clones are the same.
///
/// [`put`](Self::put) keeps the value in the cache, in its second level too where there is one, and queues it; a task
/// writes what is queued, of each key the last, many at once. Until it is written this process reads what was put, even
/// when the cache has lost it.
///
/// **What is queued is lost when the process dies**, and it was answered for. That is the bargain: for counters, last-seen
/// times, drafts, and nothing that is owed to anybody. What may not be lost is written through, or goes through an outbox.
///
/// For each key, writes come to the source in the order in which they were put, one at a time, each after the end of the one
/// before. Between keys there is no order, and of two processes that put the same key nobody knows whose write is the last:
/// one of them is. What is written behind is written no other way: a write past it may be overwritten.
///
/// When the last clone is dropped, what is queued is still written, as long as the runtime lives; [`stop`](Self::stop)
/// waits for it, and returns what could not be written.
///
/// ```
/// # use buttress_cache_aside::{Cache, CachePolicy, Write, WriteBehind, WriteBehindPolicy};
/// # async fn upsert(writes: Vec<Write<u64>>) -> std::io::Result<()> { drop(writes); Ok(()) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let views = Cache::<u64>::new("views", CachePolicy::default());
/// let behind = WriteBehind::start(&views, WriteBehindPolicy::default(), |writes| async move {
///     upsert(writes).await // one statement for all of them
/// })?;
/// behind.put("page:7", 1001).await?;
/// assert_eq!(views.get("page:7").await, Some(1001));
/// let unwritten = behind.stop(std::time::Duration::from_secs(10)).await;
/// assert!(unwritten.is_empty());
/// # Ok(()) }
/// ```
pub struct WriteBehind<V: Clone + Send + Sync + 'static> {
    handle: Arc<Handle<V>>,
}

/// Dropped with the last clone.
struct Handle<V: Clone + Send + Sync + 'static> {
    shared: Arc<Shared<V>>,
    /// Taken out by who has seen its end.
    runner: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl<V: Clone + Send + Sync + 'static> Drop for Handle<V> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

pub(super) struct Shared<V> {
    core: Arc<Core<V>>,
    pending: Arc<Pending<V>>,
    policy: WriteBehindPolicy,
    sink: Sink<V>,
    given_up: Option<GivenUp<V>>,
    /// As many as keys may still come.
    places: Semaphore,
    /// Something came, or is in a hurry.
    changed: Notify,
    /// Something was written or given up.
    progress: watch::Sender<()>,
}

/// What waits, as the cache reads it.
pub(crate) struct Pending<V>(Mutex<Inside<V>>);

struct Inside<V> {
    queue: Queue<V>,
    /// Up to this version nothing waits for others.
    hurry_to: u64,
    is_closed: bool,
    /// What was not written when it was stopped, until it is returned.
    left: Vec<Due<V>>,
}

impl<V: Clone> Pending<V> {
    fn lock(&self) -> MutexGuard<'_, Inside<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written under this key: `None` inside for a removal.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<V>> {
        self.lock().queue.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().queue.len()
    }
}

impl<V: Clone + Send + Sync + 'static> WriteBehind<V> {
    /// Begins to write the source behind the backs of those who put, by a task of its own. `sink` writes what it is given,
    /// all of it or, when it fails, none or some: it is given again. It says with [`Written::all_but`] what it will never
    /// take. It is called for one batch at a time.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], when the policy cannot work, or there is one for this cache already.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio's.
    pub fn start<F, T, E>(
        cache: &Cache<V>,
        policy: WriteBehindPolicy,
        sink: impl Fn(Vec<Write<V>>) -> F + Send + Sync + 'static,
    ) -> Result<Self, PolicyError>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Written>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::begin(cache, policy, sink, None)
    }

    /// The same, with what hears of each write that is given up: refused by the sink, or tried as often as the policy
    /// says. The cache holds it no more by then. It is called outside of all locks; while it runs nothing is written.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], as above.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio's.
    pub fn start_with<F, T, E>(
        cache: &Cache<V>,
        policy: WriteBehindPolicy,
        sink: impl Fn(Vec<Write<V>>) -> F + Send + Sync + 'static,
        given_up: impl Fn(Write<V>) + Send + Sync + 'static,
    ) -> Result<Self, PolicyError>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Written>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::begin(cache, policy, sink, Some(Arc::new(given_up)))
    }

    fn begin<F, T, E>(
        cache: &Cache<V>,
        policy: WriteBehindPolicy,
        sink: impl Fn(Vec<Write<V>>) -> F + Send + Sync + 'static,
        given_up: Option<GivenUp<V>>,
    ) -> Result<Self, PolicyError>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Written>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let policy = policy.checked()?;
        let pending = Arc::new(Pending(Mutex::new(Inside {
            queue: Queue::new(policy.rule()),
            hurry_to: 0,
            is_closed: false,
            left: Vec::new(),
        })));
        let core = Arc::clone(cache.core());
        if core.behind.set(Arc::clone(&pending)).is_err() {
            return Err(PolicyError::new("cache", "written behind once"));
        }
        let sink: Sink<V> = Arc::new(move |writes| {
            let written = sink(writes);
            Box::pin(async move { written.await.ok().map(Into::into) })
        });
        let shared = Arc::new(Shared {
            core,
            pending,
            policy,
            sink,
            given_up,
            places: Semaphore::new(policy.most),
            changed: Notify::new(),
            progress: watch::Sender::new(()),
        });
        let runner = tokio::spawn(runner::run(Arc::clone(&shared)));
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                runner: tokio::sync::Mutex::new(Some(runner)),
            }),
        })
    }

    /// Keeps a value, on the policy's terms or, in a [`Loaded`], its own, and queues it for the source; `None` and
    /// [`Loaded::not_found`] remove it there. It is queued when this returns, or as soon as there is room for it.
    ///
    /// Dropping the future before that leaves nothing; after it, the value is written.
    ///
    /// # Errors
    ///
    /// [`WriteBehindError`]: it is not queued.
    pub async fn put(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Loaded<V>>,
    ) -> Result<(), WriteBehindError> {
        let (shared, key, loaded) = (&self.handle.shared, Key::from(key.as_ref()), value.into());
        let queued = match &loaded.answer {
            Answer::Value(value) => Some(value.clone()),
            Answer::NotFound => None,
            Answer::NotModified => return Err(WriteBehindError::NothingToWrite),
        };
        let version = shared.queue(&key, queued).await?;
        shared.changed.notify_one();
        let newest = || shared.pending.lock().queue.is_newest(&key, version);
        shared.core.put_behind(&key, loaded, newest).await;
        Ok(())
    }

    /// Returns once everything that was put before is written, given up, or handed back by [`stop`](Self::stop). It is
    /// written without waiting for more.
    ///
    /// As long as the source does not take it, this waits: it is dropped without harm.
    pub async fn flush(&self) {
        let shared = &self.handle.shared;
        let mut progress = shared.progress.subscribe();
        let last = {
            let mut inside = shared.pending.lock();
            inside.hurry_to = inside.queue.last();
            inside.hurry_to
        };
        shared.changed.notify_one();
        while !shared.pending.lock().queue.is_done_to(last) {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes no more, writes what is queued, and returns what could not be written within so long, in the order in which
    /// it was put. The cache does not hold that any more. What was being written at that moment is among it, and may have
    /// been written.
    ///
    /// Dropping the future leaves the queue closed, and its task at work until its time is over; the next stop returns what
    /// this one would have.
    pub async fn stop(&self, within: Duration) -> Vec<Write<V>> {
        let shared = &self.handle.shared;
        shared.close();
        let mut running = self.handle.runner.lock().await;
        if let Some(runner) = &mut *running {
            if tokio::time::timeout(within, &mut *runner).await.is_err() {
                runner.abort();
                // Nothing is written after this returns.
                drop(runner.await);
            }
            *running = None;
        }
        let keys: Vec<Key> = {
            let mut inside = shared.pending.lock();
            let drained = inside.queue.drain();
            inside.left.extend(drained);
            let keys = inside.left.iter().map(|due| Key::clone(&due.key));
            keys.collect()
        };
        // Who waits for it in a flush waits for nothing any more.
        shared.progress.send_replace(());
        shared.forget(keys.iter()).await;
        let left = std::mem::take(&mut shared.pending.lock().left);
        left.into_iter().map(Write::from).collect()
    }

    /// How many keys wait to be written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.handle.shared.pending.len()
    }
}

impl<V: Clone + Send + Sync + 'static> Shared<V> {
    /// No more come; who waits for room is told so.
    fn close(&self) {
        let mut inside = self.pending.lock();
        inside.is_closed = true;
        inside.hurry_to = u64::MAX;
        drop(inside);
        self.places.close();
        self.changed.notify_one();
    }

    async fn queue(&self, key: &Key, value: Option<V>) -> Result<u64, WriteBehindError> {
        if let Some(version) = self.queue_at_once(key, &value)? {
            return Ok(version);
        }
        if self.policy.when_full == WhenFull::Refuse {
            return Err(WriteBehindError::Full);
        }
        let place = self.places.acquire().await;
        let place = place.map_err(|_closed| WriteBehindError::Stopped)?;
        let mut inside = self.pending.lock();
        if inside.is_closed {
            return Err(WriteBehindError::Stopped);
        }
        if !inside.queue.has(key) {
            place.forget();
        }
        let now = self.core.clock.now();
        Ok(inside.queue.put(key, value, now))
    }

    /// Where there is room, or the key waits already.
    fn queue_at_once(&self, key: &Key, value: &Option<V>) -> Result<Option<u64>, WriteBehindError> {
        let mut inside = self.pending.lock();
        if inside.is_closed {
            return Err(WriteBehindError::Stopped);
        }
        if !inside.queue.has(key) {
            match self.places.try_acquire() {
                Ok(place) => place.forget(),
                Err(_none) => return Ok(None),
            }
        }
        let now = self.core.clock.now();
        Ok(Some(inside.queue.put(key, value.clone(), now)))
    }

    /// What will not be written is not held by the cache either.
    async fn forget(&self, keys: impl Iterator<Item = &Key>) {
        let mut receipts = Vec::new();
        for key in keys {
            receipts.extend(self.core.owe(|second| second.owe_removal(key)));
            self.core.invalidate_local(key);
        }
        self.core.pay_all(receipts).await;
    }

    /// The others read what the source has by now.
    async fn tell_written(&self, keys: &[(Key, u64)]) {
        let removal = |(key, _): &(Key, u64)| self.core.owe(|second| second.owe_removal(key));
        let receipts = keys.iter().filter_map(removal).collect();
        self.core.pay_all(receipts).await;
    }

    fn versions(due: &[Due<V>]) -> Vec<(Key, u64)> {
        let version = |due: &Due<V>| (Key::clone(&due.key), due.version);
        due.iter().map(version).collect()
    }

    /// Those of them that are refused.
    fn refused(due: &[Due<V>], written: &Written) -> Vec<Due<V>> {
        if written.refused.is_empty() {
            return Vec::new();
        }
        let by_key: HashMap<&[u8], &Due<V>> = due.iter().map(|due| (&*due.key, due)).collect();
        let refused = written.refused.iter();
        let refused = refused.filter_map(|key| by_key.get(&**key));
        refused.map(|due| (*due).clone()).collect()
    }
}

impl<V: Clone + Send + Sync + 'static> Clone for WriteBehind<V> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<V: Clone + Send + Sync + 'static> fmt::Debug for WriteBehind<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind")
            .field("cache", &self.handle.shared.core)
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
