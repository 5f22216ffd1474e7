//! The shared handle: leases and their bound, clocks that step, what a script does and what the machine says.

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
    Bandwidth, Quota, SharedError, SharedRateLimiter, WhenDown,
    store::{Answer, Ask, MemoryStore, PostgresStore, Slot, Store},
};
use buttress_store::{Deadline, Key, Micros, StoreError};
use buttress_testkit::{postgres, redis, seed::Seed, short_or_long};
use rand::RngExt as _;

use crate::stores::redis_store;

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
}

/// The script's arithmetic is in doubles, the machine's in integers: they say the same.
#[tokio::test]
async fn the_script_decides_as_the_machine_does() {
    let Some(prefix) = redis::fresh_prefix() else {
        return;
    };
    let store = redis_store(&prefix).await;
    let client = ::redis::Client::open(prefix.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let seed = Seed::new();
    let mut rng = seed.rng();
    for round in 0..short_or_long(60, 2_000) {
        let permits = rng.random_range(1..=500_u64);
        let period = Duration::from_micros(rng.random_range(permits..=3_000_000));
        let pick = |at: u32| match at {
            0 => Bandwidth::per(permits, period),
            1 => Bandwidth::per(permits, period).burst(permits * 3),
            2 => Bandwidth::per(permits, period).by_interval(),
            3 => Bandwidth::per(permits, period).fixed_window(),
            _ => Bandwidth::per(permits, period).sliding_window(),
        };
        let mut quota = Quota::new(pick(rng.random_range(0..5))).unwrap();
        if rng.random_bool(0.4) {
            quota = quota.and(pick(rng.random_range(0..5))).unwrap();
        }
        let recording = Arc::new(Recording::new(store.clone()));
        let limiter = SharedRateLimiter::builder("script", quota, Arc::clone(&recording))
            .when_down(WhenDown::Closed)
            .build()
            .unwrap();
        for _ in 0..60 {
            let wanted = rng.random_range(0..=permits);
            let key = format!("{round}");
            match rng.random_range(0..10) {
                0 => drop(limiter.force(&key, wanted).await.unwrap()),
                1 => limiter.give_back(&key, wanted).await.unwrap(),
                2 => drop(limiter.peek_n(&key, wanted).await.unwrap()),
                _ => drop(limiter.check_n(&key, wanted).await.unwrap()),
            }
            let whole = format!(
                "{}:rate_limiter:{{script:{key}}}",
                prefix.as_str().trim_end_matches(':')
            );
            let text: Option<String> = ::redis::cmd("GET")
                .arg(whole)
                .query_async(&mut connection)
                .await
                .unwrap();
            recording.compare(text.as_deref());
        }
    }
}

/// Remembers what a store was asked and what it kept, and asks the machine the same.
#[derive(Debug)]
struct Recording<S> {
    inner: S,
    last: std::sync::Mutex<Option<(Ask, Answer)>>,
    held: std::sync::Mutex<Vec<Slot>>,
}

impl<S> Recording<S> {
    fn new(inner: S) -> Self {
        Self {
            inner,
            last: std::sync::Mutex::default(),
            held: std::sync::Mutex::default(),
        }
    }

    /// `text` is what the store keeps after the last question.
    fn compare(&self, text: Option<&str>) {
        let numbers: Vec<i64> = text
            .unwrap_or_default()
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        let kept: Vec<_> = numbers
            .chunks(4)
            .map(|it| Slot {
                unit: it[0],
                seen: it[1],
                level: it[2],
                before: it[3],
            })
            .collect();
        let Some((ask, answer)) = self.last.lock().unwrap().take() else {
            return;
        };
        let mut held = self.held.lock().unwrap();
        // The time of a write is in what was written, for buckets; windows are told in whole ones.
        let now = kept
            .iter()
            .filter(|slot| slot.unit > 0)
            .map(|slot| slot.seen)
            .max();
        if let (true, Some(now)) = (kept != *held && !kept.is_empty(), now) {
            let decided = ask.decide(&held, Micros::new(now));
            let buckets = |slots: &[Slot]| -> Vec<Slot> {
                slots.iter().filter(|slot| slot.unit > 0).copied().collect()
            };
            let expected = decided.slots.unwrap_or_default();
            assert_eq!(buckets(&kept), buckets(&expected), "{ask:?} on {held:?}");
            assert_eq!(
                answer.granted, decided.answer.granted,
                "{ask:?} on {held:?}"
            );
            assert_eq!(
                answer.decision.remaining(),
                decided.answer.decision.remaining()
            );
            assert_eq!(
                answer.decision.retry_after(),
                decided.answer.decision.retry_after()
            );
        }
        *held = kept;
    }
}

#[async_trait]
impl<S: Store> Store for Recording<S> {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        let answer = self.inner.decide(key, ask, deadline).await?;
        *self.last.lock().unwrap() = Some((ask.clone(), answer));
        Ok(answer)
    }

    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError> {
        self.inner.forget(key, deadline).await
    }

    async fn prune(&self, most: u32, deadline: Deadline) -> Result<u64, StoreError> {
        self.inner.prune(most, deadline).await
    }
}

/// PostgreSQL's one statement does its own arithmetic as well.
#[tokio::test]
async fn the_statement_decides_as_the_machine_does() {
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
    let store = PostgresStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let seed = Seed::new();
    let mut rng = seed.rng();
    for round in 0..short_or_long(15, 500) {
        let permits = rng.random_range(1..=500_u64);
        let period = Duration::from_micros(rng.random_range(permits..=3_000_000));
        let bandwidth = Bandwidth::per(permits, period);
        let bandwidth = match rng.random_range(0..3) {
            0 => bandwidth.burst(permits * 3),
            1 => bandwidth.by_interval(),
            _ => bandwidth.fixed_window(),
        };
        let recording = Arc::new(Recording::new(store.clone()));
        let quota = Quota::new(bandwidth).unwrap();
        let limiter = SharedRateLimiter::builder("sql", quota, Arc::clone(&recording))
            .when_down(WhenDown::Closed)
            .build()
            .unwrap();
        let key = format!("{round}");
        for _ in 0..40 {
            let wanted = rng.random_range(1..=permits);
            let _decision = limiter.check_n(&key, wanted).await.unwrap();
            let row: Option<(i64, i64, i64, i64)> = sqlx::query_as(
                "SELECT unit, seen, level, before FROM buttress_rate_limits WHERE key = $1",
            )
            .bind(format!("sql:{key}").into_bytes())
            .fetch_optional(&pool)
            .await
            .unwrap();
            let text = row.map(|(a, b, c, d)| format!("{a} {b} {c} {d}"));
            recording.compare(text.as_deref());
        }
    }
    pool.close().await;
    database.close().await.unwrap();
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

/// RL6 on real servers: what they keep is of a clock that was an hour ahead, before a failover.
#[tokio::test]
async fn rl6_redis_and_postgres_go_on_by_a_clock_that_is_behind() {
    async fn recovers(limiter: &SharedRateLimiter) {
        let refused = limiter.check("a").await.unwrap();
        assert!(
            !refused.is_allowed(),
            "what was owed is still owed: {refused:?}"
        );
        tokio::time::sleep(Duration::from_millis(700)).await;
        let after = limiter.check("a").await.unwrap();
        assert!(
            after.is_allowed(),
            "after a refill at the latest: {after:?}"
        );
    }
    let quota = || Quota::new(Bandwidth::per_second(10).burst(5)).unwrap();
    let ahead = Micros::of_host() + Duration::from_secs(3600);
    let (unit, level) = (100_000, 500_000);
    if let Some(prefix) = redis::fresh_prefix() {
        let client = ::redis::Client::open(prefix.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let key = format!(
            "{}:rate_limiter:{{behind:a}}",
            prefix.as_str().trim_end_matches(':')
        );
        let value = format!("{unit} {} {level} 0", ahead.get());
        let mut set = ::redis::cmd("SET");
        set.arg(key).arg(value).arg("PX").arg(60_000);
        let () = set.query_async(&mut connection).await.unwrap();
        let store = redis_store(&prefix).await;
        recovers(&SharedRateLimiter::new("behind", quota(), store).unwrap()).await;
    }
    if let Some(database) = postgres::fresh_database().await {
        let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
        let store = PostgresStore::new(pool.clone()).unwrap();
        store.migrate().await.unwrap();
        sqlx::query(
            "INSERT INTO buttress_rate_limits VALUES ('behind:a', $1, $2, $3, 0, NULL, $2)",
        )
        .bind(i64::from(unit))
        .bind(ahead.get())
        .bind(i64::from(level))
        .execute(&pool)
        .await
        .unwrap();
        recovers(&SharedRateLimiter::new("behind", quota(), store).unwrap()).await;
        pool.close().await;
        database.close().await.unwrap();
    }
}
