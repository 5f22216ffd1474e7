//! What Redis' script, PostgreSQL's statement and MySQL's work out by themselves, held against the machine.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_rate_limiter::{
    Bandwidth, Quota, SharedRateLimiter, WhenDown,
    store::{Answer, Ask, MySqlStore, PostgresStore, Slot, Store},
};
use buttress_store::{Deadline, Key, Micros, StoreError};
use buttress_testkit::{mysql, postgres, redis, seed::Seed, short_or_long};
use rand::RngExt as _;

use crate::stores::redis_store;

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

/// One store of many limiters of random quotas, asked again and again; `row` is what it keeps of a key.
async fn decides_as_the_machine<S: Store + Clone + 'static>(
    store: &S,
    greedy_alone: bool,
    row: impl AsyncFn(&[u8]) -> Option<(i64, i64, i64, i64)>,
) {
    let seed = Seed::new();
    let mut rng = seed.rng();
    for round in 0..short_or_long(15, 500) {
        let permits = rng.random_range(1..=500_u64);
        let period = Duration::from_micros(rng.random_range(permits..=3_000_000));
        let bandwidth = Bandwidth::per(permits, period);
        let kinds = if greedy_alone { 1 } else { 3 };
        let bandwidth = match rng.random_range(0..kinds) {
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
        let key = format!("{greedy_alone} {round}");
        for _ in 0..40 {
            let wanted = rng.random_range(1..=permits);
            match rng.random_range(0..12) {
                // What the one statement finds was written by others as well.
                0 => drop(limiter.force(&key, wanted).await.unwrap()),
                1 => limiter.give_back(&key, wanted).await.unwrap(),
                _ => drop(limiter.check_n(&key, wanted).await.unwrap()),
            }
            let row = row(format!("sql:{key}").as_bytes()).await;
            let text = row.map(|(a, b, c, d)| format!("{a} {b} {c} {d}"));
            recording.compare(text.as_deref());
        }
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
    let select = "SELECT unit, seen, level, before FROM buttress_rate_limits WHERE key = $1";
    let row = async |key: &[u8]| {
        let row = sqlx::query_as(select).bind(key);
        row.fetch_optional(&pool).await.unwrap()
    };
    decides_as_the_machine(&store, false, row).await;
    pool.close().await;
    database.close().await.unwrap();
}

/// And so does that of MySQL and MariaDB.
#[tokio::test]
async fn the_statement_on_mariadb_decides_as_the_machine_does() {
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let pool = sqlx::MySqlPool::connect(database.url()).await.unwrap();
    let store = MySqlStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let select = "SELECT unit, seen, level, `before` FROM buttress_rate_limits WHERE `key` = ?";
    let row = async |key: &[u8]| {
        let row = sqlx::query_as(select).bind(key);
        row.fetch_optional(&pool).await.unwrap()
    };
    decides_as_the_machine(&store, true, row).await;
    pool.close().await;
    database.close().await.unwrap();
}

/// What one statement cannot judge, a row of another quota, is left to the transaction.
#[tokio::test]
async fn on_mariadb_another_quota_goes_on_with_what_was_used() {
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let pool = sqlx::MySqlPool::connect(database.url()).await.unwrap();
    let store = MySqlStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let of = |bandwidth| Quota::new(bandwidth).unwrap();
    let quota = of(Bandwidth::per_hour(7));
    let limiter = SharedRateLimiter::builder("changed", quota, store)
        .when_down(WhenDown::Closed)
        .build()
        .unwrap();
    assert!(limiter.check_n("a", 5).await.unwrap().is_allowed());
    limiter.set_quota(of(Bandwidth::per_day(11))).unwrap();
    assert_eq!(limiter.check("a").await.unwrap().remaining(), 5);
    limiter
        .set_quota(of(Bandwidth::per_day(20).sliding_window()))
        .unwrap();
    assert_eq!(limiter.check("a").await.unwrap().remaining(), 19);
    assert_eq!(limiter.check("a").await.unwrap().remaining(), 18);
    limiter.set_quota(of(Bandwidth::per_day(3))).unwrap();
    assert_eq!(limiter.check("a").await.unwrap().remaining(), 2);
    let columns: (i64, i64) =
        sqlx::query_as("SELECT `before`, expires > seen FROM buttress_rate_limits")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(columns, (0, 1), "what is scratch is wiped");
    pool.close().await;
    database.close().await.unwrap();
}

/// RL6 on real servers: what they keep is of a clock that was an hour ahead, before a failover.
#[tokio::test]
async fn rl6_redis_postgres_and_mariadb_go_on_by_a_clock_that_is_behind() {
    let tally = buttress_testkit::tally::suite("RL6 X11");
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
    if let Some(database) = mysql::fresh_database().await {
        let pool = sqlx::MySqlPool::connect(database.url()).await.unwrap();
        let store = MySqlStore::new(pool.clone()).unwrap();
        store.migrate().await.unwrap();
        sqlx::query("INSERT INTO buttress_rate_limits VALUES ('behind:a', ?, ?, ?, 0, NULL, ?)")
            .bind(i64::from(unit))
            .bind(ahead.get())
            .bind(i64::from(level))
            .bind(ahead.get())
            .execute(&pool)
            .await
            .unwrap();
        recovers(&SharedRateLimiter::new("behind", quota(), store).unwrap()).await;
        pool.close().await;
        database.close().await.unwrap();
    }
    tally.faults(3);
}
