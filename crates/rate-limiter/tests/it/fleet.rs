//! Several processes on one store, killed and replaced: never more than the quota (RL3), no key that stays
//! for ever (RL5), and keys of any bytes on a cluster (RL9).

use std::{sync::Arc, time::Duration};

use buttress_rate_limiter::{
    Bandwidth, Quota, SharedRateLimiter, WhenDown,
    store::{MySqlStore, PostgresStore, RedisStore, Store},
};
use buttress_store::{Gate, RedisConnection};
use buttress_testkit::{
    child::{self, Child},
    mysql, postgres, redis,
    seed::Seed,
    short_or_long,
};

use crate::stores::sqlite_store;

const RATE: u64 = 400;
const BURST: u64 = 50;

fn limiter(store: Arc<dyn Store>, lease: Option<u64>) -> SharedRateLimiter {
    let quota = Quota::new(Bandwidth::per_second(RATE).burst(BURST)).unwrap();
    let builder = SharedRateLimiter::builder("fleet", quota, store)
        .when_down(WhenDown::Closed)
        .gate(Gate::sql());
    let builder = match lease {
        Some(slice) => builder.lease(slice, Duration::from_millis(200)),
        None => builder,
    };
    builder.build().unwrap()
}

/// A child that takes as fast as it can, and writes a byte for each permit, after it has it.
#[tokio::test]
async fn takes_as_fast_as_it_can_role() {
    use std::io::Write as _;
    let Some(role) = child::role("takes") else {
        return;
    };
    let variable = |name: &str| std::env::var(name).unwrap();
    let (kind, url) = (variable("FLEET_STORE"), variable("FLEET_URL"));
    let store: Arc<dyn Store> = match kind.as_str() {
        "redis" => {
            let connection = crate::stores::redis_connection(&url).await;
            Arc::new(RedisStore::with_prefix(connection, &variable("FLEET_PREFIX")).unwrap())
        }
        "postgres" => {
            let pool = sqlx::PgPool::connect(&url).await.unwrap();
            Arc::new(PostgresStore::new(pool).unwrap())
        }
        "mysql" => {
            let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
            Arc::new(MySqlStore::new(pool).unwrap())
        }
        _ => Arc::new(sqlite_store(url.as_ref()).await),
    };
    let lease = std::env::var("FLEET_LEASE")
        .ok()
        .and_then(|it| it.parse().ok());
    let limiter = limiter(store, lease);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(variable("FLEET_FILE"))
        .unwrap();
    role.announce("ready", "");
    loop {
        match limiter.check("hot").await {
            Ok(decision) if decision.is_allowed() => file.write_all(b".").unwrap(),
            Ok(decision) => {
                let wait = decision.retry_after().unwrap_or_default();
                tokio::time::sleep(wait.min(Duration::from_millis(5))).await;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Four processes, killed at random moments and replaced, for so long. What they were given in all, and the
/// most that it may be.
#[expect(
    clippy::disallowed_methods,
    reason = "processes are measured in real time"
)]
async fn fleet(kind: &str, url: &str, prefix: &str, lease: Option<u64>) {
    let tally = buttress_testkit::tally::suite("RL3 X5");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("given");
    let spawn = || {
        let spawn = Child::role("takes", "fleet::takes_as_fast_as_it_can_role")
            .environment("FLEET_STORE", kind)
            .environment("FLEET_URL", url)
            .environment("FLEET_PREFIX", prefix)
            .environment("FLEET_FILE", &file);
        let spawn = match lease {
            Some(slice) => spawn.environment("FLEET_LEASE", slice.to_string()),
            None => spawn,
        };
        spawn.spawn()
    };
    let seed = Seed::new();
    let mut rng = seed.rng();
    let time = Duration::from_secs(short_or_long(4, 60));
    let begun = std::time::Instant::now();
    let mut children: Vec<_> = (0..4).map(|_| spawn()).collect();
    for child in &mut children {
        child.until("ready").await;
    }
    let serving = std::time::Instant::now();
    let (mut kills, mut slices) = (0_u64, 4_u64);
    while serving.elapsed() < time {
        for child in &mut children {
            let range = Duration::from_millis(5)..Duration::from_millis(120);
            child.kill_within(range, &mut rng).await;
            kills += 1;
            slices += 1;
            *child = spawn();
        }
        for child in &mut children {
            child.until("ready").await;
        }
    }
    for child in &mut children {
        child.kill();
    }
    let whole = begun.elapsed();
    let given = std::fs::metadata(&file).unwrap().len();
    let millis = u64::try_from(whole.as_millis()).unwrap();
    // With leases each instance that ever was may hold a slice that was taken before.
    let most = BURST + RATE * millis / 1000 + 1 + lease.map_or(0, |slice| slice * slices);
    assert!(given <= most, "{kind}: {given} of {most}, {kills} kills");
    // A killed process takes its time to come back; this says that some were let through at all.
    assert!(given >= BURST * 2, "{kind}: {given}: too many were refused");
    tally.operations(given);
}

#[tokio::test]
async fn rl3_a_fleet_on_redis_is_given_no_more_than_the_quota() {
    if let Some(prefix) = redis::fresh_prefix() {
        fleet(
            "redis",
            prefix.url(),
            prefix.as_str().trim_end_matches(':'),
            None,
        )
        .await;
    }
}

#[tokio::test]
async fn rl3_a_fleet_with_leases_exceeds_it_by_a_slice_each_at_most() {
    if let Some(prefix) = redis::fresh_prefix() {
        fleet(
            "redis",
            prefix.url(),
            prefix.as_str().trim_end_matches(':'),
            Some(10),
        )
        .await;
    }
}

#[tokio::test]
async fn rl3_a_fleet_on_postgres_is_given_no_more_than_the_quota() {
    let Some(database) = postgres::fresh_database().await else {
        return;
    };
    let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
    PostgresStore::new(pool.clone())
        .unwrap()
        .migrate()
        .await
        .unwrap();
    pool.close().await;
    fleet("postgres", database.url(), "", None).await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn rl3_a_fleet_on_mariadb_is_given_no_more_than_the_quota() {
    let Some(database) = mysql::fresh_database().await else {
        return;
    };
    let pool = sqlx::MySqlPool::connect(database.url()).await.unwrap();
    MySqlStore::new(pool.clone())
        .unwrap()
        .migrate()
        .await
        .unwrap();
    pool.close().await;
    fleet("mysql", database.url(), "", None).await;
    database.close().await.unwrap();
}

#[tokio::test]
async fn rl3_a_fleet_on_sqlite_is_given_no_more_than_the_quota() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limits.db");
    drop(sqlite_store(&file).await);
    fleet("sqlite", file.to_str().unwrap(), "", None).await;
}

#[tokio::test]
async fn rl5_no_key_stays_for_ever_whatever_was_done_to_it() {
    let tally = buttress_testkit::tally::suite("RL5");
    let Ok(server) = redis::Server::start() else {
        return;
    };
    let connection = crate::stores::redis_connection(&server.url()).await;
    let store: Arc<dyn Store> = Arc::new(RedisStore::new(connection));
    let quotas = [
        Quota::per_second(10).unwrap(),
        Quota::new(Bandwidth::per_hour(5).fixed_window()).unwrap(),
        Quota::new(Bandwidth::per_minute(5).sliding_window()).unwrap(),
        Quota::per_second(3)
            .unwrap()
            .and(Bandwidth::per_day(100))
            .unwrap(),
    ];
    for (at, quota) in quotas.into_iter().enumerate() {
        let name = format!("ttl-{at}");
        let limiter = SharedRateLimiter::new(name, quota, Arc::clone(&store)).unwrap();
        for step in 0..short_or_long(200, 5_000) {
            let key = format!("{}", step % 40);
            match step % 5 {
                0 | 1 => drop(limiter.check(&key).await.unwrap()),
                2 => drop(limiter.check_n(&key, 3).await.unwrap()),
                3 => drop(limiter.force(&key, 2).await.unwrap()),
                _ => limiter.give_back(&key, 1).await.unwrap(),
            }
        }
    }
    let client = ::redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<Vec<u8>> = ::redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(keys.len() > 100, "{} keys", keys.len());
    for key in keys {
        let left: i64 = ::redis::cmd("PTTL")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .unwrap();
        // -2: it has expired meanwhile. -1 would be a key without an end.
        let ends = left == -2 || (0..=2 * 86_400_000).contains(&left);
        assert!(ends, "{left} ms");
    }
    tally.operations(4 * short_or_long(200, 5_000));
}

#[tokio::test]
async fn rl9_hostile_keys_on_a_cluster_stay_apart_and_in_one_slot() {
    let tally = buttress_testkit::tally::suite("RL9");
    let Ok(cluster) = redis::Cluster::start() else {
        return;
    };
    let client = ::redis::cluster::ClusterClient::new(cluster.urls()).unwrap();
    let connection = client.get_async_connection().await.unwrap();
    let store = RedisStore::new(RedisConnection::new(connection));
    let quota = Quota::new(Bandwidth::per_day(1)).unwrap();
    let limiter = SharedRateLimiter::builder("hostile", quota, store)
        .when_down(WhenDown::Closed)
        // What is judged is the keys; a machine that is busy answers late.
        .gate(Gate::sql())
        .build()
        .unwrap();
    let pieces: [&[u8]; 9] = [
        b"{", b"}", b"\0", b" ", b"\r\n", b"%7D", b"a", b":", b"\xff",
    ];
    let mut keys = std::collections::BTreeSet::new();
    let seed = Seed::new();
    let mut rng = seed.rng();
    while keys.len() < short_or_long(2_000, 100_000) {
        use rand::RngExt as _;
        let length = rng.random_range(1..=60);
        let piece = |_| pieces[rng.random_range(0..pieces.len())];
        keys.insert((0..length).map(piece).collect::<Vec<_>>().concat());
    }
    for key in &keys {
        assert!(limiter.check(key).await.unwrap().is_allowed(), "{key:?}");
    }
    for key in keys.iter().step_by(10) {
        assert!(!limiter.check(key).await.unwrap().is_allowed(), "{key:?}");
    }
    assert!(limiter.check("").await.is_err() && limiter.check(vec![b'x'; 300]).await.is_err());
    tally.operations(keys.len());
}
