//! The shared handle: leases and their bound, clocks that step, names.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use buttress_core::{Clock, Fault as _, Registry};
use buttress_rate_limiter::{
    Bandwidth, Quota, SharedError, SharedRateLimiter,
    store::{Answer, Ask, MemoryStore, Slot, Store},
};
use buttress_store::{Deadline, Key, Micros, StoreError};
use buttress_testkit::{seed::Seed, short_or_long};
use rand::RngExt as _;

/// Counts what it is asked.
#[derive(Debug)]
struct Counting {
    inner: MemoryStore,
    asked: AtomicU64,
}

#[async_trait]
impl Store for Counting {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        self.asked.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        self.inner.decide(key, ask, deadline).await
    }

    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError> {
        self.inner.forget(key, deadline).await
    }

    async fn prune(&self, most: u32, deadline: Deadline) -> Result<u64, StoreError> {
        self.inner.prune(most, deadline).await
    }
}

#[tokio::test]
async fn a_hot_key_costs_one_question_a_slice_and_a_refused_one_none() {
    let (clock, hand) = Clock::manual();
    let store = Arc::new(Counting {
        inner: MemoryStore::with_clock(clock.clone()),
        asked: AtomicU64::new(0),
    });
    let quota = Quota::new(Bandwidth::per_second(100).burst(1000)).unwrap();
    let limiter = SharedRateLimiter::builder("leases", quota, Arc::clone(&store))
        .lease(100, Duration::from_secs(1))
        .clock(clock)
        .build()
        .unwrap();
    // Many at once: one asks, the others wait for what it brings.
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                let mut allowed = 0;
                for _ in 0..20 {
                    allowed += u32::from(limiter.check("hot").await.unwrap().is_allowed());
                }
                allowed
            })
        })
        .collect();
    let mut allowed = 0;
    for task in tasks {
        allowed += task.await.unwrap();
    }
    assert_eq!(allowed, 1000, "the whole burst, and nothing beyond");
    assert_eq!(
        store.asked.load(SeqCst),
        11,
        "ten slices, and one refusal for a thousand"
    );
    hand.advance(Duration::from_millis(50));
    assert!(
        limiter.check("hot").await.unwrap().is_allowed(),
        "of the five that came"
    );
}

#[tokio::test]
async fn leases_exceed_the_quota_by_a_slice_for_each_instance_and_lose_no_more_than_that() {
    let seed = Seed::new();
    let mut rng = seed.rng();
    for _ in 0..short_or_long(20, 500) {
        let (clock, hand) = Clock::manual();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::with_clock(clock.clone()));
        let (rate, burst) = (1000_u64, 100_u64);
        let slice = rng.random_range(2..=20);
        let instances: Vec<_> = (0..3)
            .map(|_| {
                let quota = Quota::new(Bandwidth::per_second(rate).burst(burst)).unwrap();
                SharedRateLimiter::builder("bound", quota, Arc::clone(&store))
                    .lease(slice, Duration::from_millis(100))
                    .clock(clock.clone())
                    .build()
                    .unwrap()
            })
            .collect();
        let (mut given, mut asked) = (Vec::new(), 0_u64);
        for _ in 0..3_000 {
            hand.advance(Duration::from_micros(rng.random_range(0..=1500)));
            let instance = &instances[rng.random_range(0..3)];
            for _ in 0..rng.random_range(0..4) {
                asked += 1;
                if instance.check("key").await.unwrap().is_allowed() {
                    given.push(clock.now().as_nanos());
                }
            }
        }
        // All windows: no more than the quota, and a slice for each instance.
        let most = i128::from(burst + 3 * slice) * 1_000_000_000;
        let mut least = i128::MAX;
        for (count, at) in given.iter().enumerate() {
            let paid = i128::from(rate) * i128::from(*at);
            let before = i128::try_from(count).unwrap() * 1_000_000_000;
            least = least.min(before - paid);
            assert!(
                before + 1_000_000_000 - paid - least <= most,
                "slice {slice}"
            );
        }
        // No more is lost than a slice for each instance and life.
        let whole = clock.now().as_nanos();
        let lives = whole / 100_000_000 + 1;
        let quota = burst + rate * whole / 1_000_000_000;
        let count = u64::try_from(given.len()).unwrap();
        let least = asked.min(quota).saturating_sub(lives * 3 * slice);
        assert!(
            count >= least,
            "{count} of {asked} asked, {quota} to be had, slice {slice}"
        );
    }
}

#[tokio::test]
async fn the_one_who_asks_for_a_slice_may_go_at_any_point() {
    let _tally = buttress_testkit::tally::suite("X1");
    let store: Arc<dyn Store> = Arc::new(Counting {
        inner: MemoryStore::new(),
        asked: AtomicU64::new(0),
    });
    let quota = Quota::new(Bandwidth::per_hour(1000).burst(1000)).unwrap();
    let limiter = SharedRateLimiter::builder("cancelled", quota, store)
        .lease(2, Duration::from_secs(10))
        .build()
        .unwrap();
    buttress_testkit::cancel_sweep(
        async || limiter.check("a").await.unwrap().is_allowed(),
        async |_point| {
            let next = tokio::time::timeout(Duration::from_secs(5), limiter.check_n("a", 2));
            assert!(
                next.await.unwrap().unwrap().is_allowed(),
                "the next one asks"
            );
        },
    )
    .await;
}

/// A store whose clock a test sets, backwards as well.
#[derive(Debug, Default)]
struct Stepping {
    now: AtomicI64,
    slots: std::sync::Mutex<Vec<Slot>>,
}

#[async_trait]
impl Store for Stepping {
    async fn decide(&self, _: &Key, ask: &Ask, _: Deadline) -> Result<Answer, StoreError> {
        let mut slots = self.slots.lock().unwrap();
        let decided = ask.decide(&slots, Micros::new(self.now.load(SeqCst)));
        if let Some(new) = decided.slots {
            *slots = new;
        }
        Ok(decided.answer)
    }

    async fn forget(&self, _: &Key, _: Deadline) -> Result<(), StoreError> {
        self.slots.lock().unwrap().clear();
        Ok(())
    }

    async fn prune(&self, _: u32, _: Deadline) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// RL6: an hour back gives out nothing more, and locks out for one refill at most; this host's clock is
/// not asked at all.
#[tokio::test]
async fn rl6_a_store_whose_clock_goes_back_gives_out_nothing_more_and_locks_nobody_out() {
    let tally = buttress_testkit::tally::suite("RL6 X11");
    const HOUR: i64 = 3_600_000_000;
    for bandwidth in [
        Bandwidth::per_second(10),
        Bandwidth::per_second(10).by_interval(),
        Bandwidth::per_second(10).sliding_window(),
    ] {
        for back in [1_000, 400_000, 1_000_000, HOUR] {
            let store = Arc::new(Stepping::default());
            store.now.store(1_790_000_000_000_000, SeqCst);
            let quota = Quota::new(bandwidth).unwrap();
            let limiter = SharedRateLimiter::new("steps", quota, Arc::clone(&store)).unwrap();
            assert!(limiter.check_n("a", 10).await.unwrap().is_allowed());
            store.now.fetch_sub(back, SeqCst);
            let refused = limiter.check("a").await.unwrap();
            assert!(!refused.is_allowed(), "{bandwidth:?}: {back} us back");
            // Who is refused meanwhile changes nothing. Two periods and a step later at the latest all is
            // there again.
            assert!(!limiter.check("a").await.unwrap().is_allowed());
            store.now.fetch_add(2_000_000 + back.min(2_000_000), SeqCst);
            let after = limiter.check_n("a", 10).await.unwrap();
            assert!(
                after.is_allowed(),
                "{bandwidth:?}: {back} us back: {after:?}"
            );
        }
    }
    tally.faults(3 * 4);
}

/// A key may be what somebody else has chosen.
#[tokio::test]
async fn no_key_of_a_limiter_is_a_key_of_another_whatever_their_names_are() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let day = || Quota::new(Bandwidth::per_day(1)).unwrap();
    for name in [
        "login",
        "login:ip",
        "login%3Aip",
        "login:",
        "login:ip:",
        ":",
    ] {
        let limiter = SharedRateLimiter::new(name, day(), Arc::clone(&store)).unwrap();
        for key in [
            "10.0.0.1",
            "ip:10.0.0.1",
            ":10.0.0.1",
            "ip::10.0.0.1",
            "login:ip:10.0.0.1",
        ] {
            for expected in [true, false] {
                let decision = limiter.check(key).await.unwrap();
                assert_eq!(decision.is_allowed(), expected, "{name} {key}");
            }
        }
    }
    let longest = ":".repeat(100);
    let refused = SharedRateLimiter::new(longest, day(), Arc::clone(&store));
    assert_eq!(refused.unwrap_err().field(), "longest_key");
}

#[tokio::test]
async fn keys_and_quotas_that_cannot_be_are_refused_and_two_limiters_share_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let registry = Registry::new();
    let make = |name: &'static str, quota| {
        SharedRateLimiter::builder(name, quota, Arc::clone(&store))
            .registry(&registry)
            .build()
    };
    let day = || Quota::new(Bandwidth::per_day(1)).unwrap();
    let (one, other) = (make("one", day()).unwrap(), make("other", day()).unwrap());
    assert!(one.check("a").await.unwrap().is_allowed());
    assert!(other.check("a").await.unwrap().is_allowed());
    for key in [String::new(), "x".repeat(1000)] {
        let error = one.check(&key).await.unwrap_err();
        assert!(matches!(error, SharedError::Key(_)));
        assert_eq!(error.status(), 400);
        assert!(!error.to_string().contains("xxx"));
    }
    assert_eq!(registry.entries()[0].state(), "shared");
    let log = Quota::new(Bandwidth::per_second(1).sliding_log()).unwrap();
    assert_eq!(make("log", log).unwrap_err().field(), "algorithm");
    let fine = Quota::per(1, Duration::from_nanos(1500)).unwrap();
    assert_eq!(make("fine", fine).unwrap_err().field(), "period");
    assert_eq!(make("", day()).unwrap_err().field(), "name");
    let lease = |permits, life| {
        let builder = SharedRateLimiter::builder("x", day(), Arc::clone(&store));
        builder.lease(permits, life).build().unwrap_err().field()
    };
    assert_eq!(lease(2, Duration::from_secs(1)), "lease.permits");
}
