//! Every future of the cache, dropped at every point at which it waits: nobody hangs, nothing is left listed, and
//! the next caller gets what is right.

use std::{convert::Infallible, sync::Arc};

use buttress_cache_aside::{Cache, CachePolicy};
use buttress_core::{Registered, Registry};
use buttress_testkit::cancel_sweep::{Point, cancel_sweep};

use crate::stand::SECOND;

struct Swept {
    cache: Cache<u32>,
    registry: Registry,
}

impl Swept {
    fn new() -> Self {
        let registry = Registry::new();
        let policy = CachePolicy::builder()
            .stale_if_error(60 * SECOND)
            .soft_timeout(SECOND);
        let cache = Cache::builder("swept", policy.build().unwrap())
            .registry(&registry)
            .build();
        Self { cache, registry }
    }

    async fn load(&self, value: u32) -> u32 {
        let loader = move || async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            Ok::<_, Infallible>(value)
        };
        self.cache.get_or_load("key", loader).await.unwrap()
    }

    fn flights(&self) -> u64 {
        let mut flights = u64::MAX;
        let entries = self.registry.entries();
        let listed: &Arc<dyn Registered> = &entries[0];
        listed.gauges(&mut |name, value| {
            if name == "buttress_cache_aside_flights" {
                flights = value;
            }
        });
        flights
    }

    /// After each drop: no flight is left, and the next caller gets the next value.
    async fn holds(&self, point: Point) {
        assert_eq!(self.flights(), 0, "{point}");
        let next = tokio::time::timeout(30 * SECOND, self.load(2)).await;
        let next = next.unwrap_or_else(|_| panic!("the next caller hangs: {point}"));
        let expected = if point == Point::Completed { 1 } else { 2 };
        assert_eq!(next, expected, "{point}");
        self.cache.invalidate("key").await;
    }
}

#[tokio::test]
async fn ca3_leader_dies_at_every_point_and_the_next_caller_loads() {
    let _tally = buttress_testkit::tally::suite("CA3 X1");
    let stand = Swept::new();
    let swept = cancel_sweep(
        async || stand.load(1).await,
        async |point| stand.holds(point).await,
    );
    assert!(swept.await.points >= 3);
}

#[tokio::test]
async fn ca3_leader_dies_at_every_point_and_his_followers_get_the_value_of_his_load() {
    let _tally = buttress_testkit::tally::suite("CA3 X1");
    let stand = Swept::new();
    let follower = std::cell::RefCell::new(None);
    let swept = cancel_sweep(
        async || {
            let mut leader = Box::pin(stand.load(1));
            std::future::poll_fn(|context| {
                let polled = leader.as_mut().poll(context);
                if polled.is_pending() && follower.borrow().is_none() {
                    let cache = stand.cache.clone();
                    let never = || async { panic!("he joins") as Result<u32, Infallible> };
                    let task = async move { cache.get_or_load("key", never).await };
                    let mut task: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(task);
                    assert!(task.as_mut().poll(context).is_pending());
                    *follower.borrow_mut() = Some(task);
                }
                polled
            })
            .await
        },
        async |point| {
            let task = follower.borrow_mut().take();
            let task = task.unwrap_or_else(|| panic!("nobody followed: {point}"));
            let followed = tokio::time::timeout(30 * SECOND, task).await;
            let followed = followed.unwrap_or_else(|_| panic!("the follower hangs: {point}"));
            assert_eq!(followed.unwrap(), 1, "{point}");
            assert_eq!(stand.flights(), 0, "{point}");
            stand.cache.invalidate("key").await;
        },
    );
    assert!(swept.await.points >= 3);
}

#[tokio::test]
async fn a_batch_that_is_dropped_leaves_no_flight() {
    let stand = Swept::new();
    let swept = cancel_sweep(
        async || {
            let loader = |missing: Vec<&'static str>| async move {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(
                    missing
                        .into_iter()
                        .map(|key| (key, 1_u32))
                        .collect::<Vec<_>>(),
                )
            };
            let found = stand.cache.get_many_or_load(["key", "other"], loader).await;
            found.unwrap()
        },
        async |point| {
            stand.holds(point).await;
            stand.cache.invalidate("other").await;
        },
    );
    assert!(swept.await.points >= 2);
}

#[tokio::test]
async fn a_write_that_is_dropped_leaves_nothing_kept_and_the_next_one_is_alone() {
    let stand = Swept::new();
    let swept = cancel_sweep(
        async || {
            let write = || async {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(1_u32)
            };
            stand.cache.write_through("key", write).await.unwrap()
        },
        async |point| {
            stand.holds(point).await;
            let write = || async { Ok::<_, Infallible>(3_u32) };
            stand.cache.write_through("key", write).await.unwrap();
            assert_eq!(stand.cache.get("key").await, Some(3), "{point}");
            stand.cache.invalidate("key").await;
        },
    );
    assert!(swept.await.points >= 2);
}

#[tokio::test]
async fn who_is_dropped_after_the_soft_timeout_leaves_the_load_to_its_task() {
    let stand = Swept::new();
    stand.cache.put("key", 1).await;
    stand.cache.expire("key").await;
    assert_eq!(stand.load(2).await, 2);
    assert_eq!(stand.flights(), 0);
}
