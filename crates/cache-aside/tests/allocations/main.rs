//! What a call allocates. A program of its own, with one thread: the counter is the process's.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

use std::{
    alloc::System,
    convert::Infallible,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use buttress_cache_aside::{Cache, CachePolicy, Loaded};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    a_hit_allocates_nothing();
    a_miss_allocates_what_does_not_grow_with_those_who_ask();
}

/// How often `act` allocated.
fn allocations(act: impl FnOnce()) -> usize {
    let region = Region::new(COUNTED);
    act();
    region.change().allocations
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it does not wait"),
    }
}

fn cache() -> Cache<Arc<[u8; 64]>> {
    let policy = CachePolicy::builder().no_hard_timeout();
    Cache::new("counted", policy.build().unwrap())
}

async fn load() -> Result<Arc<[u8; 64]>, Infallible> {
    panic!("it is there")
}

fn a_hit_allocates_nothing() {
    let cache = cache();
    let value = Arc::new([7; 64]);
    now(cache.put("plain", Arc::clone(&value)));
    let tagged = Loaded::new(value).tags(["one", "two"]).etag("\"v1\"");
    now(cache.put("tagged", tagged));
    now(cache.put("none", Loaded::not_found().ttl(cache.policy().ttl())));
    for key in ["plain", "tagged", "none"] {
        let counted = allocations(|| {
            for _ in 0..100 {
                drop(now(cache.get(key)));
                drop(now(cache.get_or_load(key, load)));
                drop(now(cache.find_or_load(key.as_bytes(), load)));
                drop(now(cache.serve_or_load(key, |_| load())));
                drop(cache.peek(key));
            }
        });
        assert_eq!(counted, 0, "{key}");
    }
}

fn a_miss_allocates_what_does_not_grow_with_those_who_ask() {
    let cache = cache();
    let mut keys = (0..300).map(|key| format!("key {key}"));
    let mut miss = |misses: usize| {
        let keys: Vec<_> = keys.by_ref().take(misses).collect();
        allocations(|| {
            for key in &keys {
                let load = || async { Ok::<_, Infallible>(Arc::new([7; 64])) };
                drop(now(cache.get_or_load(key, load)).unwrap());
            }
        })
    };
    miss(100);
    // The value, the key, the loader and its future, the load, the flight; now and then a table grows.
    let counted = miss(100);
    assert!(counted <= 800, "{counted} for 100 misses");
}
