//! What networks and servers do: black holes, commits that are cut, restarts, a memory that is lost.

use std::time::Duration;

use buttress_idempotency::{
    Begin, Idempotency, Policy,
    store::{MySqlStore, PostgresStore, Store},
};
use buttress_store::{Gate, StoreErrorKind};
use buttress_testkit::{
    self as testkit, clean_pool, eventually,
    proxy::{Cut, Proxy, Way},
    redis::fresh_prefix,
    short_or_long,
};
use tokio::time::{Instant, timeout};

use crate::stand::{ASKED, OnMySql, OnPostgres, SECOND, key, new, on_redis, replayed};

/// So long that a loaded machine keeps it where nothing is wrong.
const ALLOWED: Duration = Duration::from_secs(2);

fn gate() -> Gate {
    Gate::sql().with_deadline(ALLOWED).unwrap()
}

/// Redis' client has a time limit of its own, of half a second, which must not strike first.
fn redis_gate() -> Gate {
    Gate::sql().with_deadline(ALLOWED / 5).unwrap()
}

/// In a black hole an operation ends at its deadline, the next at once, and when it is over the
/// store is asked again.
async fn falls_into_a_black_hole(proxy: &Proxy, store: impl Store + 'static) {
    let policy = Policy::builder().patience(Duration::ZERO).build().unwrap();
    let idempotency = Idempotency::builder(store).policy(policy).build();
    let guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    proxy.black_hole(Way::ToClient);
    let start = Instant::now();
    assert!(guard.complete("order 1").await.is_err());
    let waited = start.elapsed();
    assert!(waited < ALLOWED + 20 * SECOND, "{waited:?}");
    let start = Instant::now();
    let begun = idempotency.begin(&key("two"), &ASKED).await;
    let Err(buttress_idempotency::IdempotencyError::Store(error)) = begun else {
        panic!()
    };
    assert_eq!(error.kind(), StoreErrorKind::LeftAlone, "nobody pays twice");
    assert!(start.elapsed() < ALLOWED);
    proxy.heal().await.unwrap();
    eventually("the store is asked again", 10 * SECOND, async || {
        idempotency
            .begin(&key("three"), &ASKED)
            .await
            .ok()
            .map(drop)
    })
    .await;
    // It had been done, or was not: whichever, it is not half done.
    match idempotency.begin(&key("one"), &ASKED).await.unwrap() {
        Begin::Replay(outcome) => assert_eq!(outcome, "order 1"),
        Begin::InFlight { .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn in_a_black_hole_postgres_costs_one_deadline() {
    let _tally = buttress_testkit::tally::suite("X6");
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let (proxy, url) = Proxy::before(on.database.url()).await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    falls_into_a_black_hole(
        &proxy,
        PostgresStore::new(pool.clone()).unwrap().with_gate(gate()),
    )
    .await;
    clean_pool::probe(&pool).await.unwrap();
    pool.close().await;
    on.close().await;
}

#[tokio::test]
async fn in_a_black_hole_mysql_costs_one_deadline() {
    let _tally = buttress_testkit::tally::suite("X6");
    let Some(on) = OnMySql::start().await else {
        return;
    };
    let (proxy, url) = Proxy::before(on.database.url()).await.unwrap();
    let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
    falls_into_a_black_hole(
        &proxy,
        MySqlStore::new(pool.clone()).unwrap().with_gate(gate()),
    )
    .await;
    clean_pool::probe(&pool).await.unwrap();
    pool.close().await;
    on.close().await;
}

#[tokio::test]
async fn in_a_black_hole_redis_costs_one_deadline() {
    let _tally = buttress_testkit::tally::suite("X6");
    let Some(prefix) = fresh_prefix() else { return };
    let (proxy, url) = Proxy::before(prefix.url()).await.unwrap();
    let store = on_redis(&url, prefix.as_str())
        .await
        .with_gate(redis_gate());
    falls_into_a_black_hole(&proxy, store).await;
}

/// A commit is cut before, during or after; the client asks again until he knows. One effect.
#[tokio::test]
async fn a_commit_that_is_cut_leaves_one_effect_and_its_outcome() {
    let _tally = buttress_testkit::tally::suite("X7");
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    sqlx::query("CREATE TABLE orders (id BIGINT)")
        .execute(&on.pool)
        .await
        .unwrap();
    let (proxy, url) = Proxy::before(on.database.url()).await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let idempotency = Idempotency::new(PostgresStore::new(pool.clone()).unwrap());
    let (mut cuts, mut keys) = (0, 0);
    for round in 0..short_or_long(6, 200) {
        for cut in [Cut::Before, Cut::During, Cut::Answer] {
            keys += 1;
            let key = key(&format!("{round} {cut:?}"));
            proxy.cut_at(Way::ToServer, "COMMIT", cut);
            let mut tries = 0;
            let outcome = eventually("he has his answer", 20 * SECOND, async || {
                tries += 1;
                if tries == 2 {
                    cuts += 1;
                    proxy.heal().await.unwrap();
                }
                let mut transaction = pool.begin().await.ok()?;
                match idempotency
                    .begin_in(&mut *transaction, &key, &ASKED)
                    .await
                    .ok()?
                {
                    Begin::New(guard) => {
                        let place = sqlx::query("INSERT INTO orders VALUES (7)");
                        place.execute(&mut *transaction).await.ok()?;
                        let outcome = format!("try {tries}");
                        let done = guard
                            .complete_in(&mut *transaction, outcome.clone())
                            .await
                            .ok()?;
                        transaction.commit().await.ok()?;
                        done.fire();
                        Some(outcome.into())
                    }
                    Begin::Replay(outcome) => Some(outcome),
                    _ => None,
                }
            })
            .await;
            proxy.heal().await.unwrap();
            let again = idempotency.begin(&key, &ASKED).await.unwrap();
            assert_eq!(replayed(&again), outcome, "he is told what the others are");
        }
    }
    let count: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM orders")
        .fetch_one(&on.pool)
        .await
        .unwrap();
    assert_eq!(count.0, keys, "one effect a key");
    assert!(cuts >= keys / 2, "most commits were cut: {cuts} of {keys}");
    pool.close().await;
    on.close().await;
}

#[tokio::test]
async fn while_postgres_is_restarted_an_outcome_waits_for_it() {
    let _tally = buttress_testkit::tally::suite("X8");
    let server = match testkit::postgres::Server::start() {
        Ok(server) => server,
        Err(testkit::postgres::StartError::NotFound(_)) => return, // the other tests say so
        Err(error) => panic!("{error}"),
    };
    let pool = sqlx::PgPool::connect(&server.url("postgres"))
        .await
        .unwrap();
    let store = PostgresStore::new(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let policy = Policy::builder().patience(30 * SECOND).build().unwrap();
    let idempotency = Idempotency::builder(store).policy(policy).build();
    for round in 0..short_or_long(2, 50) {
        let key = key(&format!("{round}"));
        let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
        server.kill();
        let completes = tokio::spawn(guard.complete("order 1"));
        assert!(
            timeout(SECOND / 5, async {
                while !completes.is_finished() {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .is_err()
        );
        server.restart().unwrap();
        completes.await.unwrap().unwrap();
        let again = idempotency.begin(&key, &ASKED).await.unwrap();
        assert_eq!(replayed(&again), b"order 1");
    }
    pool.close().await;
}

#[tokio::test]
async fn redis_that_forgets_its_scripts_goes_on_and_one_that_forgets_its_keys_does_the_work_again()
{
    let tally = buttress_testkit::tally::suite("ID9 X9");
    let server = match testkit::redis::Server::start() {
        Ok(server) => server,
        Err(testkit::redis::StartError::NotFound(_)) => return, // the other tests say so
        Err(error) => panic!("{error}"),
    };
    let idempotency = Idempotency::new(on_redis(&server.url(), "buttress").await);
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection_manager().await.unwrap();
    let mut effects = 0;
    let keys: Vec<_> = (0..20).map(|number| key(&format!("{number}"))).collect();
    for forgets in ["SCRIPT FLUSH", "FLUSHALL"] {
        for key in &keys {
            if let Begin::New(guard) = idempotency.begin(key, &ASKED).await.unwrap() {
                effects += 1;
                guard.complete("done").await.unwrap();
            }
            let mut words = forgets.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            if forgets == "SCRIPT FLUSH" {
                let () = command
                    .arg(words.next().unwrap())
                    .query_async(&mut connection)
                    .await
                    .unwrap();
            }
        }
        assert_eq!(effects, 20, "scripts are sent again");
        // No key of ours is for ever.
        for key in redis::cmd("KEYS")
            .arg("*")
            .query_async::<Vec<Vec<u8>>>(&mut connection)
            .await
            .unwrap()
        {
            let ttl: i64 = redis::cmd("TTL")
                .arg(&key)
                .query_async(&mut connection)
                .await
                .unwrap();
            assert!(ttl > 0, "{}", key.escape_ascii());
        }
    }
    let () = redis::cmd("FLUSHALL")
        .query_async(&mut connection)
        .await
        .unwrap();
    for key in &keys {
        if let Begin::New(guard) = idempotency.begin(key, &ASKED).await.unwrap() {
            effects += 1;
            guard.complete("done").await.unwrap();
        }
    }
    // This is why what must never be done twice belongs in SQL.
    assert_eq!(effects, 40, "each was done again");
    tally.faults(21);
}
