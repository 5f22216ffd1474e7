//! What the tests of caches share: a cache whose clock they move, and loaders that count.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_cache_aside::{Cache, CacheError, CachePolicy, CachePolicyBuilder, Loaded};
use buttress_core::{Clock, clock::ManualHand};
use tokio::{sync::Notify, task::JoinHandle};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A cache of numbers whose clock is moved by hand. Its policy has no jitter.
pub(crate) struct Stand {
    pub(crate) cache: Cache<u32>,
    pub(crate) hand: ManualHand,
    pub(crate) loads: Loads,
}

/// Counts loads.
#[derive(Clone, Default)]
pub(crate) struct Loads(Arc<AtomicUsize>);

impl Loads {
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

pub(crate) fn policy() -> CachePolicyBuilder {
    CachePolicy::builder().jitter_percent(0).ttl(10 * SECOND)
}

pub(crate) fn failed() -> io::Error {
    io::Error::other("the source is down")
}

impl Stand {
    pub(crate) fn new(policy: CachePolicyBuilder) -> Self {
        let (clock, hand) = Clock::manual();
        let policy = policy.build().expect("the tests' policies can work");
        let cache = Cache::builder("numbers", policy).clock(clock).build();
        Self {
            cache,
            hand,
            loads: Loads::default(),
        }
    }

    /// Asks with a loader that brings this.
    pub(crate) async fn load(&self, key: &str, value: u32) -> Result<u32, CacheError> {
        let loads = self.loads.clone();
        let loader = move || async move {
            loads.begin();
            Ok::<_, io::Error>(value)
        };
        self.cache.get_or_load(key, loader).await
    }

    /// Asks with a loader that never ends.
    pub(crate) async fn hang(&self, key: &str) -> Result<u32, CacheError> {
        let loads = self.loads.clone();
        let loader = move || async move {
            loads.begin();
            std::future::pending::<()>().await;
            Ok::<u32, io::Error>(0)
        };
        self.cache.get_or_load(key, loader).await
    }

    /// Begins a load in a task of its own that brings this when the gate is opened.
    pub(crate) async fn load_behind_gate(
        &self,
        key: &'static str,
        loaded: Loaded<u32>,
    ) -> (Arc<Notify>, JoinHandle<Result<Option<u32>, CacheError>>) {
        let (gate, loads) = (Arc::new(Notify::new()), self.loads.clone());
        let (cache, opened) = (self.cache.clone(), Arc::clone(&gate));
        let asked = tokio::spawn(async move {
            let loader = move || async move {
                loads.begin();
                opened.notified().await;
                Ok::<_, io::Error>(loaded)
            };
            cache.find_or_load(key, loader).await
        });
        self.settle().await;
        (gate, asked)
    }

    /// Asks with a loader that fails.
    pub(crate) async fn fail(&self, key: &str) -> Result<u32, CacheError> {
        let loads = self.loads.clone();
        let loader = move || async move {
            loads.begin();
            Err::<u32, _>(failed())
        };
        self.cache.get_or_load(key, loader).await
    }

    /// Lets the tasks behind the callers' backs run.
    pub(crate) async fn settle(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}
